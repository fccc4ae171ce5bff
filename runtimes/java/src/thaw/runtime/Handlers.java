package thaw.runtime;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.Type;
import java.net.MalformedURLException;
import java.net.URL;
import java.net.URLClassLoader;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** Finds what _HANDLER names, and makes one function of every form: an event's bytes in, the answer's bytes out. */
final class Handlers {
    private static final String PACKAGE = "com.amazonaws.services.lambda.runtime.";

    /** The answer is the first `length` of `bytes`. */
    static final class Result {
        byte[] bytes;
        int length;

        Result(byte[] bytes) {
            this.bytes = bytes;
            this.length = bytes.length;
        }
    }

    interface Handler {
        Result handle(byte[] event, Client.Answer head) throws Throwable;

        /** Does all of the above but call the function. */
        default void rehearse(byte[] event, Client.Answer head) throws Throwable {}
    }

    /** What a rehearsal calls in the function's place. */
    public static Object stand(Object event) {
        return event;
    }

    private static final class Output extends ByteArrayOutputStream {
        Result result() {
            Result result = new Result(buf);
            result.length = count;
            return result;
        }
    }

    private Handlers() {}

    // ---- the function's classes ----

    /** /var/task, the jars of its lib folder, and those that layers bring. */
    static ClassLoader classLoader(String taskRoot) throws MalformedURLException {
        List<URL> urls = new ArrayList<>();
        urls.add(new File(taskRoot + "/").toURI().toURL());
        for (String folder : new String[] {taskRoot + "/lib", "/opt/java/lib"}) {
            File[] jars = new File(folder).listFiles((where, name) -> name.endsWith(".jar"));
            if (jars == null)
                continue;
            Arrays.sort(jars);
            for (File jar : jars)
                urls.add(jar.toURI().toURL());
        }
        return new URLClassLoader(urls.toArray(new URL[0]), Handlers.class.getClassLoader());
    }

    private static Class<?> optional(ClassLoader loader, String name) {
        try {
            return Class.forName(PACKAGE + name, false, loader);
        } catch (ClassNotFoundException e) {
            return null;
        }
    }

    // ---- loading ----

    static Handler load(String name, ClassLoader loader, PrintStream log) throws Throwable {
        int colons = name.indexOf("::");
        String className = colons < 0 ? name : name.substring(0, colons);
        String methodName = colons < 0 ? "handleRequest" : name.substring(colons + 2);
        if (className.isEmpty() || methodName.isEmpty())
            throw new Fault("Runtime.MalformedHandlerName", "Invalid handler: `" + name + "`", null);
        Class<?> type;
        try {
            type = Class.forName(className, true, loader);
        } catch (ClassNotFoundException e) {
            if (!className.equals(e.getMessage())) // the handler is there, something that it needs is not
                throw e;
            throw new Fault("java.lang.ClassNotFoundException", "Class not found: " + className, null);
        }
        Class<?> context = optional(loader, "Context");
        Method method = find(type, methodName, context);
        Object instance = Modifier.isStatic(method.getModifiers()) ? null : instance(type);
        Contexts contexts = context == null ? null : new Contexts(context, log);
        method.trySetAccessible();
        Handler handler = isStream(method) ? streamHandler(method, instance, contexts)
            : pojoHandler(type, method, instance, contexts, loader);
        return new Rehearsed(handler, contexts);
    }

    private static Object instance(Class<?> type) throws Throwable {
        try {
            return type.getConstructor().newInstance();
        } catch (NoSuchMethodException e) {
            throw new Fault("java.lang.NoSuchMethodException", "Class " + type.getName() + " has no public zero-argument constructor", null);
        } catch (InstantiationException e) {
            throw new Fault("java.lang.InstantiationException", "Class " + type.getName() + " is abstract and cannot be instantiated", null);
        } catch (InvocationTargetException e) {
            throw e.getCause();
        }
    }

    private static boolean isStream(Method method) {
        Class<?>[] types = method.getParameterTypes();
        return types.length >= 2 && types[0] == InputStream.class && types[1] == OutputStream.class;
    }

    /** As many parameters as possible, the context last; of equals, one that is no compiler's bridge. */
    private static Method find(Class<?> type, String name, Class<?> context) throws Fault {
        Method best = null;
        for (Method method : type.getMethods())
            if (method.getName().equals(name) && fits(method, context) && (best == null || rank(method) > rank(best)))
                best = method;
        if (best == null)
            throw new Fault("java.lang.NoSuchMethodException", "No public method named " + name
                + " with appropriate method signature found on class " + type.getName(), null);
        return best;
    }

    private static boolean fits(Method method, Class<?> context) {
        Class<?>[] types = method.getParameterTypes();
        int last = types.length - 1;
        if (method.getDeclaringClass() == Object.class)
            return false;
        if (isStream(method))
            return types.length == 2 || types.length == 3 && types[2] == context;
        return types.length <= 1 || types.length == 2 && types[last] == context;
    }

    private static int rank(Method method) {
        return method.getParameterCount() * 4 + (method.isBridge() ? 0 : 2)
            + (Modifier.isAbstract(method.getModifiers()) ? 0 : 1);
    }

    /** A handler, and the way to it: most of the time that a first event takes is the way, while it is new. */
    private static final class Rehearsed implements Handler {
        private final Handler handler;
        private final Contexts contexts;
        private final Method stand;

        Rehearsed(Handler handler, Contexts contexts) throws NoSuchMethodException {
            this.handler = handler;
            this.contexts = contexts;
            this.stand = Handlers.class.getMethod("stand", Object.class);
        }

        @Override
        public Result handle(byte[] event, Client.Answer head) throws Throwable {
            return handler.handle(event, head);
        }

        @Override
        public void rehearse(byte[] event, Client.Answer head) throws Throwable {
            if (contexts != null)
                contexts.rehearse(contexts.make(head));
            write(stand.invoke(null, read(event, Object.class)));
            Output output = new Output();
            new ByteArrayInputStream(event).transferTo(output);
            output.result();
        }
    }

    // ---- the forms ----

    private static Object[] arguments(Method method, Contexts contexts, Client.Answer head, Object first, Object second)
        throws Fault {
        Class<?>[] types = method.getParameterTypes();
        Object[] arguments = new Object[types.length];
        int given = isStream(method) ? 2 : 1;
        if (types.length > 0)
            arguments[0] = first;
        if (given == 2)
            arguments[1] = second;
        if (types.length > given)
            arguments[given] = contexts.make(head);
        return arguments;
    }

    private static Handler streamHandler(Method method, Object instance, Contexts contexts) {
        return (event, head) -> {
            Output output = new Output();
            method.invoke(instance, arguments(method, contexts, head, new ByteArrayInputStream(event), output));
            return output.result();
        };
    }

    private static Handler pojoHandler(
        Class<?> type, Method method, Object instance, Contexts contexts, ClassLoader loader) {
        Type eventType = eventType(type, method, optional(loader, "RequestHandler"));
        boolean onlyContext = method.getParameterCount() == 1 && contexts != null
            && method.getParameterTypes()[0] == optional(loader, "Context");
        return (event, head) -> {
            Object first = onlyContext ? contexts.make(head)
                : method.getParameterCount() == 0 ? null : read(event, eventType);
            Object answer = method.invoke(instance, arguments(method, contexts, head, first, null));
            return new Result(method.getReturnType() == void.class ? Beans.toJson(null) : write(answer));
        };
    }

    /** A handler of the interface says its types there: a bridge or a default method knows only Object. */
    private static Type eventType(Class<?> type, Method method, Class<?> requestHandler) {
        if (method.getParameterCount() == 0)
            return Object.class;
        Type declared = method.getGenericParameterTypes()[0];
        boolean known = declared != Object.class && !(declared instanceof java.lang.reflect.TypeVariable);
        if (!known && requestHandler != null && requestHandler.isAssignableFrom(type)
            && method.getName().equals("handleRequest"))
            return Beans.argument(type, requestHandler, 0);
        return declared;
    }

    private static Object read(byte[] event, Type type) throws Fault {
        try {
            return type == InputStream.class ? new ByteArrayInputStream(event)
                : Beans.convert(event.length == 0 ? null : Json.parse(event), type);
        } catch (IllegalArgumentException e) {
            throw new Fault("java.lang.RuntimeException", "An error occurred during JSON parsing", e);
        }
    }

    private static byte[] write(Object answer) throws Fault {
        try {
            return Beans.toJson(answer);
        } catch (IllegalArgumentException e) {
            throw new Fault("java.lang.RuntimeException", "An error occurred during JSON serialization of response", e);
        }
    }
}
