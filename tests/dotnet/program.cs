// A program that speaks to the Runtime API with .NET's own HTTP client.
using System;
using System.Net.Http;
using System.Net.Http.Json;
using System.Security.Cryptography;
using System.Text.Json;

string api = "http://" + Environment.GetEnvironmentVariable("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/";
using var client = new HttpClient { Timeout = System.Threading.Timeout.InfiniteTimeSpan };
Random.Shared.Next();
RandomNumberGenerator.GetInt32(100);
while (true) {
    using HttpResponseMessage head = await client.GetAsync(api + "next");
    string id = string.Join("", head.Headers.GetValues("Lambda-Runtime-Aws-Request-Id"));
    var answer = new { @event = await head.Content.ReadFromJsonAsync<JsonElement>(), shared = Random.Shared.NextInt64(),
        crypto = RandomNumberGenerator.GetHexString(16) };
    using HttpResponseMessage told = await client.PostAsJsonAsync(api + id + "/response", answer);
    told.EnsureSuccessStatusCode();
}
