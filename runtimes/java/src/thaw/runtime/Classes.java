package thaw.runtime;

import java.io.File;
import java.io.IOException;
import java.lang.reflect.Method;
import java.net.URISyntaxException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.jar.JarFile;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * Classes that a clone would have to load at its first event: those of packages that the function uses already. They are
 * loaded and linked before the snapshot, and not initialised, so that no code of theirs runs.
 */
final class Classes {
    private static final int CLASSES_PER_MB = 8; // of the function's memory: they take some three hundredths of it
    private static final int MEMORY_MB = 128; // when it is not told
    private static final long TIME_MAX_NS = 10_000_000_000L;

    private static final String SUFFIX = ".class";

    private final ClassLoader loader;
    private final Set<String> packages = new HashSet<>();
    private final long deadlineNs = System.nanoTime() + TIME_MAX_NS;
    private final Method link;
    private int left;

    private Classes(URLClassLoader loader) throws NoSuchMethodException {
        String memory = System.getenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE");
        this.loader = loader;
        left = CLASSES_PER_MB * (memory == null ? MEMORY_MB : Integer.parseInt(memory));
        for (Package used : loader.getDefinedPackages())
            packages.add(used.getName());
        // The virtual machine links a class before it lists what the class declares; this way leaves no list behind.
        link = Class.class.getDeclaredMethod("getDeclaredConstructors0", boolean.class);
        link.setAccessible(true);
    }

    /** What goes wrong here makes clones slower, and nothing else. */
    static void link(ClassLoader loader) {
        try {
            Classes classes = new Classes((URLClassLoader) loader);
            for (URL url : ((URLClassLoader) loader).getURLs())
                classes.linkAll(new File(url.toURI()));
        } catch (ReflectiveOperationException | IOException | URISyntaxException | RuntimeException e) {
            return;
        }
    }

    private static String packageOf(String name) {
        return name.substring(0, Math.max(0, name.lastIndexOf('.')));
    }

    /** The names of a jar's or folder's classes that belong to a package in use. */
    private List<String> list(File place) throws IOException {
        List<String> files = new ArrayList<>();
        if (place.isFile()) {
            try (JarFile jar = new JarFile(place)) {
                jar.stream().forEach(entry -> files.add(entry.getName()));
            }
        } else if (place.isDirectory()) {
            Path root = place.toPath();
            try (Stream<Path> all = Files.walk(root)) {
                all.forEach(path -> files.add(root.relativize(path).toString()));
            }
        }
        return files.stream().filter(file -> file.endsWith(SUFFIX))
            .map(file -> file.substring(0, file.length() - SUFFIX.length()).replace('/', '.'))
            .filter(name -> packages.contains(packageOf(name)))
            .collect(Collectors.toList());
    }

    private void linkAll(File place) throws IOException {
        for (String name : list(place)) {
            if (left-- <= 0 || System.nanoTime() > deadlineNs)
                return;
            try {
                link.invoke(Class.forName(name, false, loader), true);
            } catch (ReflectiveOperationException | LinkageError e) {
                // What it refers to is not there: it stays as it is, and says so to whoever uses it.
            }
        }
    }
}
