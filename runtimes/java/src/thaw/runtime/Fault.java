package thaw.runtime;

import java.lang.reflect.InvocationTargetException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** A failure that the platform names itself; and how any failure is told to callers and to the log. */
final class Fault extends Exception {
    private static final long serialVersionUID = 1;
    private static final int FRAMES_MAX = 200;
    private static final int CAUSES_MAX = 20;

    final String type; // of the error that callers see

    Fault(String type, String message, Throwable cause) {
        super(message, cause);
        this.type = type;
    }

    static Throwable unwrap(Throwable error) {
        return error instanceof InvocationTargetException && error.getCause() != null ? error.getCause() : error;
    }

    static String typeOf(Throwable error) {
        return error instanceof Fault ? ((Fault) error).type : error.getClass().getName();
    }

    /** The JSON object that callers see. */
    static Map<String, Object> describe(Throwable error) {
        return describe(error, 0);
    }

    private static Map<String, Object> describe(Throwable error, int depth) {
        Map<String, Object> shape = new LinkedHashMap<>();
        if (error.getMessage() != null)
            shape.put("errorMessage", error.getMessage());
        shape.put("errorType", typeOf(error));
        shape.put("stackTrace", error instanceof Fault ? List.of() : userFrames(error));
        if (error.getCause() != null && error.getCause() != error && depth < CAUSES_MAX)
            shape.put("cause", describe(error.getCause(), depth + 1));
        return shape;
    }

    /** What lies above this runtime's own frames. */
    private static List<String> userFrames(Throwable error) {
        StackTraceElement[] frames = error.getStackTrace();
        int end = 0;
        while (end < frames.length && !frames[end].getClassName().startsWith("thaw.runtime."))
            end++;
        while (end > 0 && end < frames.length && isReflection(frames[end - 1].getClassName()))
            end--;
        List<String> lines = new ArrayList<>();
        for (int i = 0; i < Math.min(end, FRAMES_MAX); i++)
            lines.add(frames[i].toString());
        return lines;
    }

    private static boolean isReflection(String name) {
        return name.startsWith("java.lang.reflect.") || name.startsWith("jdk.internal.reflect.")
            || name.startsWith("java.lang.invoke.");
    }

    /** What the log shows: "message: type", then the traces. */
    static String text(Throwable error) {
        StringBuilder out = new StringBuilder();
        if (error.getMessage() != null)
            out.append(error.getMessage()).append(": ");
        out.append(typeOf(error)).append('\n');
        for (int depth = 0; error != null && depth < CAUSES_MAX; depth++) {
            if (depth > 0)
                out.append("Caused by: ");
            if (depth > 0 || !(error instanceof Fault)) {
                out.append(error instanceof Fault ? typeOf(error) + ": " + error.getMessage() : error.toString()).append('\n');
                for (String frame : userFrames(error))
                    out.append("\tat ").append(frame).append('\n');
            }
            error = error.getCause() == error ? null : error.getCause();
        }
        return out.toString();
    }
}
