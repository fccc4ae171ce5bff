// A function with a web server inside: its handler asks it over the loopback interface, as adapters of ASP.NET do.
using System;
using System.Linq;
using System.Net.Http;
using System.Threading.Tasks;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Web;

public class Function
{
    private readonly HttpClient client = new();
    private readonly string address;
    private int asked;

    public Function()
    {
        WebApplicationBuilder builder = WebApplication.CreateBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        WebApplication application = builder.Build();
        application.MapGet("/pets/{name}", (string name) => Results.Json(new { name, asked = ++asked, id = Guid.NewGuid() }));
        application.Start();
        address = application.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First();
    }

    public async Task<string> Handle(string name) => await client.GetStringAsync($"{address}/pets/{name}");
}
