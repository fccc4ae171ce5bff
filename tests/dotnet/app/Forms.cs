using System;
using System.Collections.Generic;
using System.IO;
using System.Text;
using System.Threading.Tasks;
using Amazon.Lambda.Core;

namespace App;

/// <summary>Handlers of every form.</summary>
public class Forms
{
    public record Pet(string Name, Kind Kind, int Age, List<Pet>? Friends);

    public enum Kind { Cat, Dog }

    public Dictionary<string, object> Hello(Dictionary<string, object> input, ILambdaContext context)
    {
        input["id"] = context.AwsRequestId;
        return input;
    }

    public static Pet Older(Pet pet) => pet with { Age = pet.Age + 1 };

    public int Length(int[] numbers) => numbers[0] + numbers[1] + numbers[2];

    public string Text(string text, ILambdaContext context) => text + " " + context.MemoryLimitInMB;

    public string OnlyContext(ILambdaContext context) => context.FunctionName;

    public string None() => "none";

    public void Nothing(object any) {}

    public async Task NothingLater(object any) => await Task.Delay(1);

    public async Task<string> Later(string text)
    {
        await Task.Delay(1);
        await Task.Yield();
        return text + " later";
    }

    public Stream Streams(Stream input, ILambdaContext context)
    {
        var reader = new StreamReader(input);
        return new MemoryStream(Encoding.UTF8.GetBytes("{\"read\": " + reader.ReadToEnd() + "}"));
    }

    public async Task<Stream> StreamsLater(Stream input)
    {
        var copy = new MemoryStream();
        await input.CopyToAsync(copy);
        copy.Position = 0;
        return copy;
    }

    private static string Hidden(string text) => "hidden " + text;

    public string Twice(string a) => a;

    public string Twice(int a) => a.ToString();

    public static object About(object any, ILambdaContext context)
    {
        context.Logger.LogInformation("said to {whom} {count}", "the logger", 1);
        context.Logger.LogLine("a line");
        LambdaLogger.Log("said to LambdaLogger");
        Console.WriteLine("said to the {0}", "console");
        Console.Error.WriteLine("said to its error");
        Console.Write("said without an end of line");
        return new {
            function = context.FunctionName, version = context.FunctionVersion, arn = context.InvokedFunctionArn,
            memory = context.MemoryLimitInMB, remaining = context.RemainingTime.TotalMilliseconds, trace = context.TraceId,
            environment = Environment.GetEnvironmentVariable("_X_AMZN_TRACE_ID"), group = context.LogGroupName,
            stream = context.LogStreamName, custom = context.ClientContext?.Custom, identity = context.Identity.IdentityId,
            heap = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes, wrapped = Environment.GetEnvironmentVariable("WRAPPED"),
            arguments = Environment.GetCommandLineArgs(), framework = Environment.Version.Major, mine = AppContext.GetData("Mine") };
    }

    public static object Fails(Dictionary<string, string> how)
    {
        switch (how["how"]) {
        case "cause":
            try {
                throw new IOException("inner");
            } catch (IOException e) {
                throw new InvalidOperationException("outer", e);
            }
        case "all":
            Task.WhenAll(Fail("one"), Fail("two")).Wait();
            return "";
        case "exit":
            Environment.Exit(7);
            return "";
        case "memory":
            return new byte[1 << 30].Length;
        default:
            throw new ArgumentException(null);
        }
    }

    private static async Task Fail(string why)
    {
        await Task.Yield();
        throw new InvalidOperationException(why);
    }
}

public class FailsToStart
{
    public FailsToStart() => throw new InvalidOperationException("no database");

    public string Handle() => "";
}

/// <summary>A serializer of the package's own.</summary>
public class Upper : ILambdaSerializer
{
    public T Deserialize<T>(Stream from) => (T)(object)new StreamReader(from).ReadToEnd().ToUpperInvariant();

    public void Serialize<T>(T value, Stream to) => to.Write(Encoding.UTF8.GetBytes("\"" + value + "\""));
}

public class Serialized
{
    [LambdaSerializer(typeof(Upper))]
    public string Handle(string text) => text.Trim('"') + "!";
}
