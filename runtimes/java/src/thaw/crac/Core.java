package thaw.crac;

import java.util.ArrayList;
import java.util.List;

/**
 * The implementation that the org.crac library of a function finds: it looks for these class names in the package that
 * the property org.crac.Core.Compat names. Resources are told in the reverse order of their registration before the
 * snapshot, and in that order after a restore.
 */
public final class Core {
    private static final GlobalContext GLOBAL = new GlobalContext();

    private Core() {}

    public static Context<Resource> getGlobalContext() {
        return GLOBAL;
    }

    /** The platform alone decides when a snapshot is taken. */
    public static void checkpointRestore() {
        throw new UnsupportedOperationException("a snapshot is taken when a version is published");
    }

    public static boolean hasResources() {
        return !GLOBAL.copy().isEmpty();
    }

    private static final class GlobalContext extends Context<Resource> {
        private final List<Resource> resources = new ArrayList<>();

        @Override
        public synchronized void register(Resource resource) {
            resources.add(resource);
        }

        /** Hooks may register more: those are for the next occasion. */
        synchronized List<Resource> copy() {
            return new ArrayList<>(resources);
        }

        @Override
        public void beforeCheckpoint(Context<? extends Resource> context) throws CheckpointException {
            CheckpointException failed = null;
            List<Resource> all = copy();
            for (int i = all.size() - 1; i >= 0; i--) {
                try {
                    all.get(i).beforeCheckpoint(this);
                } catch (Throwable e) {
                    failed = failed == null ? new CheckpointException() : failed;
                    failed.addSuppressed(e);
                }
            }
            if (failed != null)
                throw failed;
        }

        @Override
        public void afterRestore(Context<? extends Resource> context) throws RestoreException {
            RestoreException failed = null;
            for (Resource resource : copy()) {
                try {
                    resource.afterRestore(this);
                } catch (Throwable e) {
                    failed = failed == null ? new RestoreException() : failed;
                    failed.addSuppressed(e);
                }
            }
            if (failed != null)
                throw failed;
        }
    }
}
