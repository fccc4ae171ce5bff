package thaw.runtime;

import java.io.FileInputStream;
import java.io.IOException;
import java.lang.reflect.Field;
import java.nio.ByteBuffer;
import java.security.NoSuchAlgorithmException;
import java.security.Provider;
import java.security.SecureRandom;
import java.security.SecureRandomParameters;
import java.security.SecureRandomSpi;
import java.security.Security;
import java.util.List;
import java.util.Random;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Clones of one snapshot hold the same random state. The JDK's own generators are given a new one after the thaw:
 * those for secrets through a provider of ours that stands before the JDK's, and which asks the kernel anew; the
 * others by their fields, which the command line opens. What a function seeded itself repeats, as it was told to.
 */
final class Unique {
    private static volatile int generation; // counts thaws; generators that are older take new entropy
    private static FileInputStream urandom;

    private Unique() {}

    // ---- generators for secrets ----

    static void installProvider() throws IOException {
        urandom = new FileInputStream("/dev/urandom");
        Security.insertProviderAt(new UniqueProvider(), 1);
    }

    private static void fill(byte[] bytes) {
        try {
            if (urandom.readNBytes(bytes, 0, bytes.length) != bytes.length)
                throw new IOException("end of file");
        } catch (IOException e) {
            throw new java.security.ProviderException("/dev/urandom cannot be read", e);
        }
    }

    private static byte[] entropy(int length) {
        byte[] bytes = new byte[length];
        fill(bytes);
        return bytes;
    }

    private static final class UniqueProvider extends Provider {
        private static final long serialVersionUID = 1;

        UniqueProvider() {
            super("Thaw", "1.0", "SecureRandom that differs between clones of one snapshot");
            putService(new RandomService(this, "NativePRNG", "true")); // first: the default algorithm
            putService(new RandomService(this, "NativePRNGNonBlocking", "true"));
            putService(new RandomService(this, "DRBG", "false"));
            putService(new RandomService(this, "SHA1PRNG", "false"));
        }
    }

    private static final class RandomService extends Provider.Service {
        RandomService(Provider provider, String algorithm, String threadSafe) {
            super(provider, "SecureRandom", algorithm, Kernel.class.getName(), null,
                java.util.Map.of("ThreadSafe", threadSafe));
        }

        @Override
        public Object newInstance(Object parameters) throws NoSuchAlgorithmException {
            try {
                return getAlgorithm().startsWith("Native") ? new Kernel()
                    : new Reseeded(getAlgorithm(), (SecureRandomParameters) parameters);
            } catch (java.security.NoSuchProviderException e) {
                throw new NoSuchAlgorithmException(e);
            }
        }
    }

    /** The kernel's bytes, never kept. */
    private static final class Kernel extends SecureRandomSpi {
        private static final long serialVersionUID = 1;

        @Override
        protected void engineSetSeed(byte[] seed) {
            // The kernel has better.
        }

        @Override
        protected void engineNextBytes(byte[] bytes) {
            fill(bytes);
        }

        @Override
        protected byte[] engineGenerateSeed(int length) {
            return entropy(length);
        }
    }

    /** The JDK's generator, which takes entropy before its first use in each clone. */
    private static final class Reseeded extends SecureRandomSpi {
        private static final long serialVersionUID = 1;
        private static final int SEED_BYTES = 48;

        private final SecureRandom inner;
        private int seen = generation;
        private boolean used, deterministic;

        Reseeded(String algorithm, SecureRandomParameters parameters)
            throws NoSuchAlgorithmException, java.security.NoSuchProviderException {
            inner = parameters == null ? SecureRandom.getInstance(algorithm, "SUN")
                : SecureRandom.getInstance(algorithm, parameters, "SUN");
        }

        private SecureRandom fresh() {
            used = true;
            if (seen != generation) {
                seen = generation;
                if (!deterministic)
                    inner.setSeed(entropy(SEED_BYTES));
            }
            return inner;
        }

        /** A SHA1PRNG that is seeded before its first use is meant to repeat. */
        @Override
        protected synchronized void engineSetSeed(byte[] seed) {
            deterministic |= !used && inner.getAlgorithm().equals("SHA1PRNG");
            inner.setSeed(seed);
        }

        @Override
        protected synchronized void engineNextBytes(byte[] bytes) {
            fresh().nextBytes(bytes);
        }

        @Override
        protected synchronized void engineNextBytes(byte[] bytes, SecureRandomParameters parameters) {
            fresh().nextBytes(bytes, parameters);
        }

        @Override
        protected synchronized void engineReseed(SecureRandomParameters parameters) {
            if (parameters == null)
                fresh().reseed();
            else
                fresh().reseed(parameters);
        }

        @Override
        protected byte[] engineGenerateSeed(int length) {
            return entropy(length);
        }

        @Override
        protected SecureRandomParameters engineGetParameters() {
            return inner.getParameters();
        }

        @Override
        public String toString() {
            return inner.toString();
        }
    }

    // ---- the other generators ----

    private static final int THREADS_MORE = 64; // that may start while they are listed
    private static Field threadSeed, threadProbe;
    private static AtomicLong[] seeds; // from which new generators are made
    private static Random math;
    private static Field shuffler;

    private static final List<String[]> SEEDS = List.of(new String[] {"java.util.Random", "seedUniquifier"},
        new String[] {"java.util.SplittableRandom", "defaultGen"},
        new String[] {"java.util.concurrent.ThreadLocalRandom", "seeder"},
        new String[] {"jdk.random.L32X64MixRandom", "defaultGen"},
        new String[] {"jdk.internal.random.L32X64MixRandom", "defaultGen"});

    /** Before the snapshot: looks everything up, so that a clone only has to write. */
    static void prepare() {
        seeds = SEEDS.stream().map(name -> (AtomicLong) read(name[0], name[1])).filter(one -> one != null)
            .toArray(AtomicLong[]::new);
        math = (Random) read("java.lang.Math$RandomNumberGeneratorHolder", "randomNumberGenerator");
        shuffler = field("java.util.Collections", "r");
        threadSeed = field("java.lang.Thread", "threadLocalRandomSeed");
        threadProbe = field("java.lang.Thread", "threadLocalRandomProbe");
        ThreadLocalRandom.current();
    }

    static Field field(String type, String name) {
        try {
            Field field = Class.forName(type).getDeclaredField(name);
            field.setAccessible(true);
            return field;
        } catch (ReflectiveOperationException | RuntimeException e) {
            return null; // another JDK's
        }
    }

    static Object read(String type, String name) {
        Field field = field(type, name);
        try {
            return field == null ? null : field.get(null);
        } catch (IllegalAccessException e) {
            return null;
        }
    }

    private static Thread[] threads() {
        ThreadGroup root = Thread.currentThread().getThreadGroup();
        while (root.getParent() != null)
            root = root.getParent();
        Thread[] threads = new Thread[root.activeCount() + THREADS_MORE];
        return java.util.Arrays.copyOf(threads, root.enumerate(threads, true));
    }

    /** In a clone, before the function runs. */
    static void renew() throws IllegalAccessException {
        generation++;
        Thread[] threads = threads();
        ByteBuffer fresh = ByteBuffer.wrap(entropy((threads.length + seeds.length + 2) * Long.BYTES));
        for (AtomicLong seed : seeds)
            seed.set(fresh.getLong());
        if (math != null)
            math.setSeed(fresh.getLong());
        Random shuffled = shuffler == null ? null : (Random) shuffler.get(null);
        if (shuffled != null)
            shuffled.setSeed(fresh.getLong());
        for (Thread thread : threads)
            if (threadSeed != null && threadProbe != null && threadProbe.getInt(thread) != 0)
                threadSeed.setLong(thread, fresh.getLong());
    }
}
