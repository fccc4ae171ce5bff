package thaw.crac;

/** Resources failed after a restore: each failure is a suppressed exception. */
public class RestoreException extends Exception {
    private static final long serialVersionUID = 1;
}
