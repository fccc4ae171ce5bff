package app;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.security.NoSuchAlgorithmException;
import java.security.SecureRandom;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ThreadLocalRandom;
import org.crac.Core;
import org.crac.Resource;

/** Handlers that are frozen and thawed. */
public class Snap {
    /** Everything that is random, used before the snapshot too. */
    public static class Random implements RequestHandler<Object, Map<String, Object>> {
        private final SecureRandom usual = new SecureRandom(), drbg = of("DRBG"), sha1 = of("SHA1PRNG"),
            unblocking = of("NativePRNGNonBlocking");
        private final ExecutorService pool = Executors.newFixedThreadPool(2);

        private static SecureRandom of(String algorithm) {
            try {
                return SecureRandom.getInstance(algorithm);
            } catch (NoSuchAlgorithmException e) {
                throw new IllegalStateException(e);
            }
        }

        public Random() {
            draw();
        }

        private Map<String, Object> draw() {
            Map<String, Object> drawn = new LinkedHashMap<>();
            drawn.put("SecureRandom", usual.nextLong());
            drawn.put("DRBG", drbg.nextLong());
            drawn.put("SHA1PRNG", sha1.nextLong());
            drawn.put("NativePRNGNonBlocking", unblocking.nextLong());
            drawn.put("new SecureRandom", new SecureRandom().nextLong());
            drawn.put("UUID", UUID.randomUUID());
            drawn.put("Math.random", Math.random());
            drawn.put("ThreadLocalRandom", ThreadLocalRandom.current().nextLong());
            drawn.put("new Random", new java.util.Random().nextLong());
            drawn.put("new SplittableRandom", new SplittableRandom().nextLong());
            List<Integer> cards = new ArrayList<>();
            for (int i = 0; i < 52; i++)
                cards.add(i);
            Collections.shuffle(cards);
            drawn.put("shuffle", cards);
            try {
                List<Callable<Long>> jobs = Collections.nCopies(4, () -> ThreadLocalRandom.current().nextLong());
                int i = 0;
                for (Future<Long> done : pool.invokeAll(jobs))
                    drawn.put("ThreadLocalRandom of the pool " + i++, done.get());
            } catch (Exception e) {
                throw new IllegalStateException(e);
            }
            return drawn;
        }

        @Override
        public Map<String, Object> handleRequest(Object event, Context context) {
            return draw();
        }
    }

    private static final List<String> told = Collections.synchronizedList(new ArrayList<>());

    private static final class Told implements Resource {
        private final String name;

        Told(String name) {
            this.name = name;
            Core.getGlobalContext().register(this);
        }

        private void tell(String what) {
            told.add(what + " " + name);
            if ((what + " " + name).equals(System.getenv("FAIL")))
                throw new IllegalStateException("the hook failed");
        }

        @Override
        public void beforeCheckpoint(org.crac.Context<? extends Resource> context) { tell("before"); }

        @Override
        public void afterRestore(org.crac.Context<? extends Resource> context) { tell("after"); }
    }

    public static class Hooks implements RequestHandler<Object, List<String>> {
        private final Resource first = new Told("first"), second = new Told("second");

        @Override
        public List<String> handleRequest(Object event, Context context) {
            return told;
        }
    }

    /** Threads, a heap with something in it, and the collector, before and after. */
    public static class Work implements RequestHandler<Integer, Map<String, Object>> {
        private final ExecutorService pool = Executors.newFixedThreadPool(8);
        private final Map<Integer, String> heap = new java.util.HashMap<>();
        private final long born = System.nanoTime();
        private int count;

        public Work() {
            for (int i = 0; i < 100000; i++)
                heap.put(i, "value " + i);
            square(10);
        }

        private int square(int n) {
            try {
                List<Callable<Integer>> jobs = new ArrayList<>();
                for (int i = 0; i < n; i++) {
                    int job = i;
                    jobs.add(() -> job * job);
                }
                int sum = 0;
                for (Future<Integer> done : pool.invokeAll(jobs))
                    sum += done.get();
                return sum;
            } catch (Exception e) {
                throw new IllegalStateException(e);
            }
        }

        @Override
        public Map<String, Object> handleRequest(Integer n, Context context) {
            Map<String, Object> result = new LinkedHashMap<>();
            System.gc();
            result.put("sum", square(n));
            for (int i = 0; i < 200; i++)
                heap.put(-i, new String(new char[50000]));
            System.gc();
            result.put("kept", heap.get(4711));
            result.put("count", ++count);
            result.put("forward", System.nanoTime() > born);
            int[] parallel = java.util.stream.IntStream.range(0, 1000).parallel().map(i -> i * 2).toArray();
            result.put("parallel", java.util.Arrays.stream(parallel).sum());
            return result;
        }
    }

    /** Whether a class that only events use is loaded, and whether its code has run. */
    public static class Linked implements RequestHandler<Object, List<Boolean>> {
        private static boolean initialised;

        static class Later {
            static {
                initialised = true;
            }
        }

        @Override
        public List<Boolean> handleRequest(Object event, Context context) {
            try {
                java.lang.reflect.Method find = ClassLoader.class.getDeclaredMethod("findLoadedClass", String.class);
                find.setAccessible(true);
                boolean loaded = find.invoke(Linked.class.getClassLoader(), "app.Snap$Linked$Later") != null;
                List<Boolean> seen = new ArrayList<>(List.of(loaded, initialised));
                new Later();
                seen.add(initialised);
                return seen;
            } catch (ReflectiveOperationException e) {
                throw new IllegalStateException(e);
            }
        }
    }

    /** Says whether it was called before the snapshot. */
    public static class Primed implements RequestHandler<Object, List<Object>> {
        private final List<Object> events = new ArrayList<>();

        @Override
        public List<Object> handleRequest(Object event, Context context) {
            events.add(event);
            if ("bad".equals(event))
                throw new IllegalArgumentException("as asked");
            return events;
        }
    }
}
