package thaw.runtime;

import java.io.PrintStream;
import java.lang.reflect.InvocationHandler;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.Proxy;
import java.util.Collections;
import java.util.Map;

/**
 * The context object. Its interfaces come with the function's own package, in whatever version, so they are
 * implemented by proxies in the package's class loader. A method that we do not know answers null, 0 or false.
 */
final class Contexts {
    private static final String PACKAGE = "com.amazonaws.services.lambda.runtime.";

    // A clone inherits these from its snapshot, where the log's names are not set, as on Lambda.
    private static final String LOG_GROUP = System.getenv("AWS_LAMBDA_LOG_GROUP_NAME");
    private static final String LOG_STREAM = System.getenv("AWS_LAMBDA_LOG_STREAM_NAME");
    private static final String NAME = System.getenv("AWS_LAMBDA_FUNCTION_NAME");
    private static final String VERSION = System.getenv("AWS_LAMBDA_FUNCTION_VERSION");
    private static final String MEMORY = System.getenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE");

    private final ClassLoader loader;
    private final Class<?> context;
    private final Object logger;

    /** `context` is the function's Context interface. */
    Contexts(Class<?> context, PrintStream log) throws ClassNotFoundException {
        this.context = context;
        this.loader = context.getClassLoader();
        this.logger = proxy("LambdaLogger", (method, arguments) -> {
            if (arguments != null && arguments.length > 0)
                write(log, arguments[0]);
            return null;
        });
    }

    private static void write(PrintStream log, Object message) {
        if (message instanceof byte[])
            log.write((byte[]) message, 0, ((byte[]) message).length);
        else
            log.print(message);
    }

    private interface Answers {
        Object to(String method, Object[] arguments);
    }

    private Object proxy(String name, Answers answers) throws ClassNotFoundException {
        return proxy(Class.forName(PACKAGE + name, false, loader), answers);
    }

    private Object proxy(Class<?> type, Answers answers) {
        InvocationHandler handler = (self, method, arguments) -> {
            if (method.getDeclaringClass() == Object.class)
                return ofObject(self, method, arguments, type);
            Object answer = answers.to(method.getName(), arguments);
            return answer == null && method.getReturnType().isPrimitive() && method.getReturnType() != void.class
                ? Beans.convert(null, method.getReturnType()) : answer;
        };
        return Proxy.newProxyInstance(loader, new Class<?>[] {type}, handler);
    }

    private static Object ofObject(Object self, Method method, Object[] arguments, Class<?> type) {
        if (method.getName().equals("equals"))
            return self == arguments[0];
        return method.getName().equals("hashCode") ? (Object) System.identityHashCode(self) : type.getSimpleName();
    }

    Object make(Client.Answer head) throws Fault {
        String id = head.field("Lambda-Runtime-Aws-Request-Id");
        String arn = head.field("Lambda-Runtime-Invoked-Function-Arn");
        String deadline = head.field("Lambda-Runtime-Deadline-Ms");
        long deadlineMs = deadline == null ? 0 : Long.parseLong(deadline);
        Object identity = identity(map(head.field("Lambda-Runtime-Cognito-Identity"), "Cognito Identity"));
        Object client = clientContext(map(head.field("Lambda-Runtime-Client-Context"), "Client Context"));
        return proxy(context, (method, arguments) -> {
            switch (method) {
                case "getAwsRequestId":
                    return id;
                case "getLogGroupName":
                    return LOG_GROUP;
                case "getLogStreamName":
                    return LOG_STREAM;
                case "getFunctionName":
                    return NAME;
                case "getFunctionVersion":
                    return VERSION;
                case "getInvokedFunctionArn":
                    return arn;
                case "getIdentity":
                    return identity;
                case "getClientContext":
                    return client;
                case "getRemainingTimeInMillis":
                    return (int) Math.max(0, Math.min(Integer.MAX_VALUE, deadlineMs - System.currentTimeMillis()));
                case "getMemoryLimitInMB":
                    return MEMORY == null ? 0 : Integer.parseInt(MEMORY);
                case "getLogger":
                    return logger;
                default:
                    return null;
            }
        });
    }

    /** Asks a context all that a function may ask, save to log. */
    void rehearse(Object made) throws ReflectiveOperationException {
        for (Method method : context.getMethods())
            if (method.getParameterCount() == 0 && !Modifier.isStatic(method.getModifiers()))
                method.invoke(made);
    }

    private static Map<?, ?> map(String text, String what) throws Fault {
        if (text == null || text.isEmpty())
            return null;
        try {
            byte[] utf8 = text.getBytes(java.nio.charset.StandardCharsets.ISO_8859_1); // as the head was read
            return (Map<?, ?>) Json.parse(utf8);
        } catch (IllegalArgumentException | ClassCastException e) {
            throw new Fault("Runtime.LambdaContextUnmarshalError", "Unable to parse " + what + " JSON", e);
        }
    }

    private Object identity(Map<?, ?> values) {
        Map<?, ?> known = values == null ? Collections.emptyMap() : values;
        return proxyOrNull("CognitoIdentity", (method, arguments) -> {
            if (method.equals("getIdentityId"))
                return text(known, "cognitoIdentityId", "identityId");
            return method.equals("getIdentityPoolId") ? text(known, "cognitoIdentityPoolId", "poolId") : null;
        });
    }

    private static Object text(Map<?, ?> values, String name, String other) {
        Object value = values.get(name) == null ? values.get(other) : values.get(name);
        return value == null ? "" : value.toString();
    }

    private Object clientContext(Map<?, ?> values) {
        if (values == null)
            return null;
        Object client = values.get("client") instanceof Map ? client((Map<?, ?>) values.get("client")) : null;
        return proxyOrNull("ClientContext", (method, arguments) -> {
            if (method.equals("getClient"))
                return client;
            return method.equals("getCustom") ? values.get("custom") : values.get("env");
        });
    }

    private Object client(Map<?, ?> values) {
        return proxyOrNull("Client", (method, arguments) -> { // getAppTitle: appTitle, or app_title from mobile SDKs
            String name = Character.toLowerCase(method.charAt(3)) + method.substring(4);
            Object value = values.get(name);
            return value != null ? value : values.get(name.replaceAll("([A-Z])", "_$1").toLowerCase());
        });
    }

    private Object proxyOrNull(String name, Answers answers) {
        try {
            return proxy(name, answers);
        } catch (ClassNotFoundException e) {
            return null; // a package that has a Context of its own only
        }
    }
}
