using System;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.Loader;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using System.Threading.Tasks;

namespace Thaw.Runtime;

/// <summary>Finds what "Assembly::Type::Method" names, and calls it.</summary>
internal sealed class Handlers
{
    private const BindingFlags All =
        BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly;
    private const string Shape = "The valid format is 'ASSEMBLY::TYPE::METHOD'.";

    /// <summary>For packages that name no serializer: as the usual one reads and writes.</summary>
    private static readonly JsonSerializerOptions Json = new JsonSerializerOptions {
        PropertyNameCaseInsensitive = true,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        TypeInfoResolver = new DefaultJsonTypeInfoResolver(),
    };

    private readonly MethodInfo method;
    private readonly object? target;
    private readonly Type? input, output; // null: none
    private readonly bool isAsync;
    private readonly Contexts? contexts;
    private readonly object? serializer;
    private readonly MethodInfo? deserialize, serialize;

    public Handlers(string handler, string root)
    {
        string[] parts = handler.Split("::", 3).Select(part => part.Trim()).ToArray();
        if (parts.Length != 3)
            throw new LambdaValidationException($"Invalid lambda function handler: '{handler}'. {Shape}");
        foreach (var (part, what) in parts.Zip(new[] { "assembly", "type", "method" }))
            if (part.Length == 0)
                throw new LambdaValidationException($"Invalid lambda function handler: '{handler}', the {what} is missing. {Shape}");
        Assembly assembly = Load(parts[0], root);
        Type type = assembly.GetType(parts[1]) ??
            throw new LambdaValidationException($"Unable to load type '{parts[1]}' from assembly '{parts[0]}'.");
        method = FindMethod(type, parts[2], parts[0]);
        CheckMethod(type);
        ParameterInfo[] parameters = CheckParameters(type);
        serializer = FindSerializer(assembly);
        if (parameters.Length > 0 && !Contexts.IsContext(parameters[0].ParameterType))
            input = parameters[0].ParameterType;
        if (parameters.Length > 0 && Contexts.IsContext(parameters[^1].ParameterType))
            contexts = new Contexts(parameters[^1].ParameterType, serializer);
        (isAsync, output) = FindOutput(method.ReturnType);
        deserialize = input == null || IsStream(input) ? null : Generic("Deserialize", input);
        serialize = output == null || IsStream(output) ? null : Generic("Serialize", output);
        if (method.IsStatic)
            RuntimeHelpers.RunClassConstructor(type.TypeHandle);
        else
            target = Activator.CreateInstance(type, BindingFlags.DoNotWrapExceptions | BindingFlags.Public | BindingFlags.Instance,
                null, null, null);
    }

    // ---- finding ----

    private static Assembly Load(string name, string root)
    {
        try {
            return AssemblyLoadContext.Default.LoadFromAssemblyName(new AssemblyName(name));
        } catch (FileNotFoundException e) {
            throw new LambdaValidationException($"Could not find the specified handler assembly with the file name '{e.FileName}'. " +
                "The assembly should be located in the root of your uploaded .zip file.", e);
        } catch (Exception e) {
            throw new LambdaValidationException($"Unable to load assembly '{name}'.", e);
        }
    }

    /// <summary>By name, else by signature as ToString() shows it, in the type or those that it derives from.</summary>
    private static MethodInfo FindMethod(Type type, string name, string assembly)
    {
        for (Type? at = type; at != null; at = at.BaseType) {
            MethodInfo[] named = at.GetMethods(All).Where(one => one.Name == name || one.ToString() == name).ToArray();
            if (named.Length == 1)
                return named[0];
            if (named.Length > 1)
                throw new LambdaValidationException($"The method '{name}' in type '{type.FullName}' appears to have a number of " +
                    "overloads. To call this method please specify a complete method signature. Possible candidates are:\n" +
                    string.Join("\n", named.Select(one => one.ToString())) + ".");
        }
        throw new LambdaValidationException($"Unable to find method '{name}' in type '{type.FullName}' from assembly '{assembly}': " +
            $"Found no methods matching method name '{name}'.");
    }

    private void CheckMethod(Type type)
    {
        string cannot = $"The method '{method}' cannot be used as a Lambda Handler because it is ";
        if (type.IsGenericType)
            throw new LambdaValidationException($"The type '{type.FullName}' cannot be used as a Lambda Handler type because it is generic. " +
                "Handler methods cannot be located in generic types. Please specify a handler method in a non-generic type.");
        if (method.IsAbstract)
            throw new LambdaValidationException(cannot +
                "an abstract method. Handler methods cannot be abstract. Please specify a non-abstract handler method.");
        if (method.IsGenericMethod)
            throw new LambdaValidationException(cannot +
                "a generic method. Handler methods cannot be generic. Please specify a non-generic handler method.");
        if (method.ReturnType == typeof(void) && method.IsDefined(typeof(AsyncStateMachineAttribute)))
            throw new LambdaValidationException(cannot +
                "an 'async void' method. Handler methods cannot be 'async void'. Please specify a method that is not 'async void'.");
        if (!method.IsStatic && type.IsAbstract)
            throw new LambdaValidationException($"The instance method '{method}' cannot be used as a Lambda Handler because its type " +
                $"'{type.FullName}' is abstract. Please either use a static handler or specify a type that is not abstract.");
    }

    private ParameterInfo[] CheckParameters(Type type)
    {
        ParameterInfo[] parameters = method.GetParameters();
        if (parameters.Length > 0 && parameters[^1].IsDefined(typeof(ParamArrayAttribute)))
            throw new LambdaValidationException($"The method '{method}' cannot be used as a Lambda Handler because it is a 'params' " +
                "method. Please specify a method that does not use 'params'.");
        string not = $"Method '{method.Name}' of type '{type.FullName}' is not supported: the method has ";
        if (parameters.Length > 2)
            throw new LambdaValidationException(not + "more than 2 parameters.");
        if (parameters.Length == 2 && !Contexts.IsContext(parameters[1].ParameterType))
            throw new LambdaValidationException(not +
                "2 parameters, but the second parameter is not of type 'Amazon.Lambda.Core.ILambdaContext'.");
        return parameters;
    }

    private static (bool, Type?) FindOutput(Type returned)
    {
        for (Type? at = returned; at != null; at = at.BaseType)
            if (at.IsGenericType && at.GetGenericTypeDefinition() == typeof(Task<>))
                return (true, at.GetGenericArguments()[0]);
        if (typeof(Task).IsAssignableFrom(returned))
            return (true, null);
        return (false, returned == typeof(void) ? null : returned);
    }

    private static bool IsStream(Type type) => typeof(Stream).IsAssignableFrom(type);

    /// <summary>What [LambdaSerializer] of the method or the assembly names.</summary>
    private object? FindSerializer(Assembly assembly)
    {
        static bool Is(object one) => one.GetType().FullName == "Amazon.Lambda.Core.LambdaSerializerAttribute";
        object? attribute = method.GetCustomAttributes().FirstOrDefault(Is) ?? assembly.GetCustomAttributes().FirstOrDefault(Is);
        if (attribute == null)
            return null;
        var type = attribute.GetType().GetProperty("SerializerType")?.GetValue(attribute) as Type ??
            throw new LambdaValidationException(
                $"The 'SerializerType' property on attribute class '{attribute.GetType().FullName}' is not set.");
        if (type.GetConstructor(Type.EmptyTypes) == null)
            throw new LambdaValidationException(
                $"The indicated serializer '{type.FullName}' does not define a public zero-parameter constructor.");
        if (type.GetInterface("Amazon.Lambda.Core.ILambdaSerializer") == null)
            throw new LambdaValidationException(
                $"The '{type.FullName}' class is invalid: it does not implement the 'ILambdaSerializer' interface.");
        return Activator.CreateInstance(type, BindingFlags.DoNotWrapExceptions | BindingFlags.Public | BindingFlags.Instance,
            null, null, null);
    }

    private MethodInfo? Generic(string name, Type of) =>
        serializer?.GetType().GetInterface("Amazon.Lambda.Core.ILambdaSerializer")!.GetMethod(name)!.MakeGenericMethod(of);

    // ---- calling ----

    /// <summary>Calls the handler, waits for it, and gives its answer's bytes.</summary>
    public ArraySegment<byte> Handle(Answer head)
    {
        object? result = Call(Arguments(head));
        if (isAsync) {
            var task = (Task)result!;
            task.GetAwaiter().GetResult();
            result = output == null ? null : task.GetType().GetProperty("Result")!.GetValue(task);
        }
        return output == null ? ArraySegment<byte>.Empty : Encode(result);
    }

    private object? Call(object?[] arguments) => method.Invoke(target, BindingFlags.DoNotWrapExceptions, null, arguments, null);

    private object?[] Arguments(Answer head)
    {
        object? context = contexts?.Make(head);
        if (input == null)
            return context == null ? Array.Empty<object?>() : new[] { context };
        object? value = Decode(head.Body);
        return context == null ? new[] { value } : new[] { value, context };
    }

    private object? Decode(byte[] body)
    {
        var stream = new MemoryStream(body, 0, body.Length, false, true);
        if (IsStream(input!))
            return stream;
        return deserialize == null ? JsonSerializer.Deserialize(body, input!, Json)
            : deserialize.Invoke(serializer, BindingFlags.DoNotWrapExceptions, null, new object[] { stream }, null);
    }

    private ArraySegment<byte> Encode(object? result)
    {
        var to = new MemoryStream();
        if (result is Stream from && IsStream(output!))
            from.CopyTo(to);
        else if (IsStream(output!))
            return ArraySegment<byte>.Empty;
        else if (serialize != null)
            serialize.Invoke(serializer, BindingFlags.DoNotWrapExceptions, null, new[] { result, to }, null);
        else
            JsonSerializer.Serialize(to, result, output!, Json);
        (result as IDisposable)?.Dispose();
        return new ArraySegment<byte>(to.GetBuffer(), 0, (int)to.Length);
    }

    /// <summary>Takes an event's way to the handler and back, without calling it.</summary>
    public void Rehearse(Answer head)
    {
        if (contexts != null)
            contexts.Rehearse(contexts.Make(head));
        Warm.Serializer(Json);
        // A serializer of the function's own may do anything; the well-known ones read and write.
        string? from = serializer?.GetType().Assembly.GetName().Name;
        if (from != null && !from.StartsWith("Amazon.Lambda.Serialization.", StringComparison.Ordinal))
            return;
        if (input != null && !IsStream(input))
            ReadEmpty(input);
        if (output != null && !IsStream(output) && ReadEmpty(output) is object empty)
            Encode(empty);
    }

    /// <summary>Compiles what an event needs, of ours and of the handler's assembly.</summary>
    public void Compile()
    {
        Warm.Compile(typeof(Handlers).Assembly);
        Warm.Compile(method.Module.Assembly);
        contexts?.Compile();
    }

    private static readonly string[] Empties = { "{}", "[]", "\"\"", "0", "false" };

    /// <summary>An empty object of a type of events or answers, as the serializer makes it; null when there is none.</summary>
    private object? ReadEmpty(Type type)
    {
        MethodInfo? read = Generic("Deserialize", type);
        foreach (string text in Empties)
            try {
                byte[] bytes = System.Text.Encoding.UTF8.GetBytes(text);
                return read == null ? JsonSerializer.Deserialize(bytes, type, Json)
                    : read.Invoke(serializer, BindingFlags.DoNotWrapExceptions, null, new object[] { new MemoryStream(bytes) }, null);
            } catch (Exception) {
                // Of another shape, or one that is not made without values.
            }
        return null;
    }
}
