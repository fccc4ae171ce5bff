package app;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.crac.Core;
import org.crac.Resource;

/** The function of the official clients' tests, for the Java client: see tests/clients/README.md for what it answers. */
public class Handler implements RequestHandler<Map<String, Object>, Object> {
    private static final List<String> hooks = Collections.synchronizedList(new ArrayList<>());
    private static final List<Resource> kept = new ArrayList<>(); // the context's references are weak
    private final AtomicInteger ticks = new AtomicInteger();
    private final AtomicInteger worked = new AtomicInteger();
    private final ExecutorService pool = Executors.newFixedThreadPool(4);
    private final String born = draw();
    private String clone;
    private int count;

    public Handler() throws Exception {
        Executors.newSingleThreadScheduledExecutor(Handler::daemon)
                .scheduleAtFixedRate(ticks::incrementAndGet, 1, 1, TimeUnit.MILLISECONDS);
        for (int i = 0; i < 4; i++) pool.submit(() -> 0).get();
        for (int i = 0; i < 2 && System.getenv("BUSY") != null; i++) daemon(this::work).start();
        register("1");
        register("2");
    }

    /** Is in the middle of something whenever it is looked at. */
    private void work() {
        while (true) {
            for (int i = 0; i < 20; i++) {
                List<String> words = new ArrayList<>();
                for (int n = 0; n < 500; n++) words.add("n" + n);
                Collections.sort(words);
            }
            worked.incrementAndGet();
            try {
                Thread.sleep(1);
            } catch (InterruptedException e) {
                return;
            }
        }
    }

    private static Thread daemon(Runnable work) {
        Thread thread = new Thread(work);
        thread.setDaemon(true);
        return thread;
    }

    /** From the kernel: without help, nothing else in a virtual machine is unique in clones. */
    private static String draw() throws Exception {
        try (java.io.FileInputStream in = new java.io.FileInputStream("/dev/urandom")) {
            return new java.math.BigInteger(1, in.readNBytes(16)).toString(16);
        }
    }

    private static void hook(String name) {
        hooks.add(name);
        if (name.equals(System.getenv("FAIL"))) throw new IllegalStateException("the hook " + name + " failed");
    }

    private static void register(String name) {
        Resource resource = new Resource() {
            @Override
            public void beforeCheckpoint(org.crac.Context<? extends Resource> context) {
                hook("before " + name);
            }

            @Override
            public void afterRestore(org.crac.Context<? extends Resource> context) {
                hook("after " + name);
            }
        };
        kept.add(resource);
        Core.getGlobalContext().register(resource);
    }

    private boolean threadsWork() throws Exception {
        int before = ticks.get();
        int enough = System.getenv("BUSY") == null ? 0 : worked.get() + 3;
        List<Callable<Integer>> work = new ArrayList<>();
        for (int i = 0; i < 16; i++) work.add(Thread.currentThread()::getPriority);
        for (Future<Integer> done : pool.invokeAll(work)) done.get();
        System.gc();
        while (ticks.get() < before + 3 || worked.get() < enough) Thread.sleep(1);
        return true;
    }

    @Override
    public Object handleRequest(Map<String, Object> event, Context context) {
        try {
            if (clone == null) clone = draw();
            count++;
            if ("fail".equals(event.get("do"))) throw new IllegalArgumentException("it failed");
            if ("exit".equals(event.get("do"))) Runtime.getRuntime().halt(7);
            if (event.containsKey("log")) context.getLogger().log("logged: " + event.get("log") + "\n");
            Object hold = event.get("hold_ms");
            if (hold != null) Thread.sleep(((Number) hold).longValue());
            Map<String, Object> answer = new LinkedHashMap<>();
            answer.put("event", event);
            answer.put("born", born);
            answer.put("clone", clone);
            answer.put("count", count);
            answer.put("hooks", new ArrayList<>(hooks));
            answer.put("threads", threadsWork());
            answer.put("request", context.getAwsRequestId());
            answer.put("arn", context.getInvokedFunctionArn());
            answer.put("remaining", context.getRemainingTimeInMillis());
            return answer;
        } catch (RuntimeException e) {
            throw e;
        } catch (Exception e) {
            throw new IllegalStateException(e);
        }
    }
}
