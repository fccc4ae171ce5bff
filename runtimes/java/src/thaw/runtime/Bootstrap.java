package thaw.runtime;

import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import thaw.crac.Core;

/** Runs a Java function: the program of the managed runtimes java11 and later. */
public final class Bootstrap {
    private static final int EXIT_INIT = 1;
    private static final int EXIT_HOOK = 64;
    private static final int WARM_UP_ROUNDS = 300; // enough for the first compiler
    private static final String WARM_UP_EVENT = "{\"key\": [\"value\", 1, 1.5, true, null], \"text\": \"\\u00e4\\n\"}";

    private static final String WARM_UP_TRACE = "Root=1-00000000-000000000000000000000000;Sampled=0";
    private static final String TRACE_PROPERTY = "com.amazonaws.xray.traceHeader";
    private static final long REHEARSAL_MS = 60000; // that a rehearsed event seems to have

    private static final int WIPE_BYTES = 256 << 10; // small enough to be in no collector's way of its own

    private static volatile byte[] wiped; // a field, that no compiler leaves it out
    private static PrintStream log;
    private static Client client;

    private Bootstrap() {}

    public static void main(String[] arguments) throws Exception {
        openLog();
        Unique.installProvider();
        client = new Client(System.getenv("AWS_LAMBDA_RUNTIME_API"));
        ClassLoader loader = Handlers.classLoader(variable("LAMBDA_TASK_ROOT", "/var/task"));
        Thread.currentThread().setContextClassLoader(loader);
        Handlers.Handler handler = initialise(loader);
        boolean unique = true;
        if ("snap-start".equals(System.getenv("AWS_LAMBDA_INITIALIZATION_TYPE")))
            unique = freezeAndRestore(handler);
        serve(handler, unique);
    }

    private static String variable(String name, String otherwise) {
        String value = System.getenv(name);
        return value == null || value.isEmpty() ? otherwise : value;
    }

    /** One write for each print: what a function wrote is in the log when it dies. */
    private static void openLog() {
        log = new PrintStream(new FileOutputStream(FileDescriptor.out), false, StandardCharsets.UTF_8);
        System.setOut(log);
        System.setErr(new PrintStream(new FileOutputStream(FileDescriptor.err), false, StandardCharsets.UTF_8));
    }

    private static Handlers.Handler initialise(ClassLoader loader) throws IOException {
        try {
            return Handlers.load(variable("_HANDLER", ""), loader, log);
        } catch (Throwable e) {
            fail("init/error", e, Fault.typeOf(e), EXIT_INIT);
            throw new AssertionError(e);
        }
    }

    /** Reports, logs, and ends the process. */
    private static void fail(String path, Throwable error, String kind, int code) throws IOException {
        log.print(Fault.text(error));
        client.postError(path, Beans.toJson(Fault.describe(error)), kind);
        System.exit(code);
    }

    // ---- SnapStart ----

    /** Is frozen in its request for restore/next, or, when no hook is to run after a restore, in its first one for
     * an event, which saves each clone a round trip. Says whether the process is a unique clone already. */
    private static boolean freezeAndRestore(Handlers.Handler handler) throws Exception {
        prime(handler);
        Classes.link(Thread.currentThread().getContextClassLoader());
        try {
            Core.getGlobalContext().beforeCheckpoint(null);
        } catch (Throwable e) {
            fail("init/error", onlyCause(e), "Runtime.BeforeCheckpointError", EXIT_HOOK);
        }
        forgetAddresses();
        Unique.prepare();
        warmUp(handler);
        wipeGarbage();
        if (!Core.hasResources())
            return false;
        Client.Answer answer = client.restore();
        if (answer.status != 200)
            throw new IOException("restore/next: status " + answer.status);
        Unique.renew();
        try {
            Core.getGlobalContext().afterRestore(null);
        } catch (Throwable e) {
            fail("restore/error", onlyCause(e), "Runtime.AfterRestoreError", EXIT_HOOK);
        }
        return true;
    }

    private static Throwable onlyCause(Throwable error) {
        return error.getSuppressed().length == 1 ? error.getSuppressed()[0] : error;
    }

    /** Handles the sample events that the function is to be primed with, if any, as it will handle all others: each
     * clone has the classes loaded and the code compiled. */
    private static void prime(Handlers.Handler handler) throws IOException {
        Client.Answer answer;
        while ((answer = client.prime()).status == 200)
            handle(handler, answer);
    }

    /** Addresses may have changed by the time of the restore. */
    private static void forgetAddresses() {
        for (String name : List.of("cache", "expirySet")) {
            Object kept = Unique.read("java.net.InetAddress", name);
            if (kept instanceof Map)
                ((Map<?, ?>) kept).clear();
            else if (kept instanceof Collection)
                ((Collection<?>) kept).clear();
        }
    }

    /** Runs what a clone will run first, until it is compiled. */
    private static void warmUp(Handlers.Handler handler) throws Exception {
        byte[] event = WARM_UP_EVENT.getBytes(StandardCharsets.UTF_8);
        try {
            for (int i = 0; i < WARM_UP_ROUNDS; i++) {
                Client.Answer answer = client.rehearse();
                if (answer.status != 200)
                    throw new IOException("ping: status " + answer.status);
                handler.rehearse(event, rehearsedHead());
                Unique.renew();
            }
        } catch (Exception | Error e) {
            throw e;
        } catch (Throwable e) {
            throw new IllegalStateException(e);
        }
        setTrace(WARM_UP_TRACE);
        setTrace(null);
    }

    /** Collects, and leaves free memory as zeros: pages of zeros are in no snapshot, and cost a clone that writes to
     * them less than a copy of old garbage would. */
    private static void wipeGarbage() {
        System.gc();
        long bytes = Runtime.getRuntime().totalMemory();
        for (long done = 0; done < bytes; done += WIPE_BYTES)
            wiped = new byte[WIPE_BYTES];
        wiped = null;
        System.gc();
    }

    private static Client.Answer rehearsedHead() {
        Client.Answer head = new Client.Answer();
        head.head = "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: 00000000-0000-0000-0000-000000000000\r\n"
            + "Lambda-Runtime-Trace-Id: " + WARM_UP_TRACE + "\r\nLambda-Runtime-Deadline-Ms: "
            + (System.currentTimeMillis() + REHEARSAL_MS)
            + "\r\nLambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:000000000000:function:rehearsal";
        return head;
    }

    // ---- events ----

    private static void serve(Handlers.Handler handler, boolean unique) throws Exception {
        while (true) {
            Client.Answer answer = client.next();
            if (!unique) {
                Unique.renew();
                unique = true;
            }
            if (answer.status != 200)
                throw new IOException("invocation/next: status " + answer.status);
            handle(handler, answer);
        }
    }

    /** Where tracing libraries look for it: a Java program cannot change its environment. */
    private static void setTrace(String trace) {
        if (trace != null)
            System.setProperty(TRACE_PROPERTY, trace);
        else
            System.clearProperty(TRACE_PROPERTY);
    }

    private static void handle(Handlers.Handler handler, Client.Answer answer) throws IOException {
        String id = answer.field("Lambda-Runtime-Aws-Request-Id");
        String trace = answer.field("Lambda-Runtime-Trace-Id");
        setTrace(trace);
        Handlers.Result result = null;
        Throwable error = null;
        try {
            result = handler.handle(answer.body, answer);
        } catch (Throwable e) {
            error = Fault.unwrap(e);
        }
        Client.Answer told = error != null ? report(id, error)
            : client.post("invocation/" + id + "/response", result.bytes, result.length, "");
        if (told.status != 202)
            log.println("The answer was refused with status " + told.status + ": "
                + new String(told.body, StandardCharsets.UTF_8));
    }

    private static Client.Answer report(String id, Throwable error) throws IOException {
        log.print(Fault.text(error));
        Client.Answer told = client.postError("invocation/" + id + "/error", Beans.toJson(Fault.describe(error)),
            Fault.typeOf(error));
        if (error instanceof VirtualMachineError && !(error instanceof StackOverflowError))
            System.exit(EXIT_INIT); // nothing is certain any more
        return told;
    }
}
