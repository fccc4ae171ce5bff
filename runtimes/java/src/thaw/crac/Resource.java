package thaw.crac;

/** What org.crac registers: told before the snapshot, and after every restore. */
public interface Resource {
    void beforeCheckpoint(Context<? extends Resource> context) throws Exception;

    void afterRestore(Context<? extends Resource> context) throws Exception;
}
