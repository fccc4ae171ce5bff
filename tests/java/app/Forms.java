package app;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import com.amazonaws.services.lambda.runtime.RequestStreamHandler;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;

/** A handler of each form, and some that fail. */
public class Forms {
    public static class Interface implements RequestHandler<Map<String, Object>, Map<String, Object>> {
        @Override
        public Map<String, Object> handleRequest(Map<String, Object> event, Context context) {
            event.put("id", context.getAwsRequestId());
            return event;
        }
    }

    public static class Stream implements RequestStreamHandler {
        @Override
        public void handleRequest(InputStream in, OutputStream out, Context context) throws IOException {
            out.write(("{\"name\": \"" + context.getFunctionName() + "\", \"event\": ").getBytes());
            in.transferTo(out);
            out.write('}');
        }
    }

    public enum Kind { CAT, DOG }

    public static class Pet {
        private String name;
        private Kind kind;
        private List<Pet> friends;
        public int age;

        public String getName() { return name; }
        public void setName(String name) { this.name = name; }
        public Kind getKind() { return kind; }
        public void setKind(Kind kind) { this.kind = kind; }
        public List<Pet> getFriends() { return friends; }
        public void setFriends(List<Pet> friends) { this.friends = friends; }
    }

    public static class Beans implements RequestHandler<Pet, Pet> {
        @Override
        public Pet handleRequest(Pet pet, Context context) {
            pet.age++;
            pet.getFriends().get(0).setName(pet.getFriends().get(0).getName().toUpperCase());
            return pet;
        }
    }

    public int length(List<Integer> numbers) { return numbers.stream().mapToInt(Integer::intValue).sum(); }

    public String text(String text, Context context) { return text + " " + context.getMemoryLimitInMB(); }

    public void nothing(Object event) { }

    public static boolean not(boolean value) { return !value; }

    public void stream(InputStream in, OutputStream out) throws IOException { in.transferTo(out); }

    public Map<String, Object> context(Object event, Context context) {
        Map<String, Object> seen = new LinkedHashMap<>();
        seen.put("function", context.getFunctionName());
        seen.put("version", context.getFunctionVersion());
        seen.put("arn", context.getInvokedFunctionArn());
        seen.put("memory", context.getMemoryLimitInMB());
        seen.put("remaining", context.getRemainingTimeInMillis());
        seen.put("identity", context.getIdentity().getIdentityId());
        seen.put("custom", context.getClientContext() == null ? null : context.getClientContext().getCustom());
        seen.put("heap", Runtime.getRuntime().maxMemory());
        seen.put("loader", Thread.currentThread().getContextClassLoader() == Forms.class.getClassLoader());
        seen.put("arguments", java.lang.management.ManagementFactory.getRuntimeMXBean().getInputArguments());
        context.getLogger().log("said to the logger\n");
        System.out.print("said without an end of line");
        return seen;
    }

    /** Our mappings of a file whose path ends so: where each begins, and its rights. */
    public List<List<String>> mappings(String end) throws IOException {
        return Files.lines(Path.of("/proc/self/maps"))
                .filter(line -> line.endsWith(end))
                .map(line -> List.of(line.substring(0, line.indexOf('-')), line.split(" ")[1]))
                .collect(Collectors.toList());
    }

    public Object fails(Map<String, String> event) throws Exception {
        switch (event.get("how")) {
            case "cause":
                throw new IllegalStateException("outer", new IOException("inner"));
            case "bare":
                throw new NullPointerException();
            case "deep":
                return fails(event);
            case "exit":
                System.exit(7);
                return null;
            case "memory":
                byte[][] all = new byte[1000000][];
                for (int i = 0; ; i++)
                    all[i] = new byte[1 << 20];
            default:
                Object[] self = new Object[1];
                self[0] = self;
                return Arrays.asList(self);
        }
    }


    public static class NoConstructor implements RequestHandler<Object, Object> {
        public NoConstructor(int unused) { }
        @Override
        public Object handleRequest(Object event, Context context) { return null; }
    }

    public static class FailsToStart implements RequestHandler<Object, Object> {
        public FailsToStart() { throw new IllegalStateException("no database"); }
        @Override
        public Object handleRequest(Object event, Context context) { return null; }
    }
}
