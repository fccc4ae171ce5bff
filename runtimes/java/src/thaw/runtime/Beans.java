package thaw.runtime;

import java.lang.reflect.Array;
import java.lang.reflect.Constructor;
import java.lang.reflect.Field;
import java.lang.reflect.GenericArrayType;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Member;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.lang.reflect.TypeVariable;
import java.lang.reflect.WildcardType;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collection;
import java.util.Collections;
import java.util.Date;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Queue;
import java.util.Set;
import java.util.SortedMap;
import java.util.SortedSet;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentMap;

/**
 * Between JSON values and the types of handlers: scalars, enums, arrays, collections, maps, records, and beans (public
 * fields, getters and setters). Names are compared as they are, else without case, as event sources capitalise theirs.
 */
final class Beans {
    private static final int DEPTH_MAX = 512; // beans may hold themselves
    private static final Map<Class<?>, Bean> BEANS = new ConcurrentHashMap<>();

    private Beans() {}

    /** What a class has to be read from, and written to. */
    private static final class Bean {
        final Map<String, Member> getters = new LinkedHashMap<>();
        final Map<String, Member> setters = new HashMap<>();
        final Map<String, Member> settersWithoutCase = new HashMap<>();

        Bean(Class<?> type) {
            for (Field field : type.getFields())
                if (!Modifier.isStatic(field.getModifiers())) {
                    getters.put(field.getName(), field);
                    if (!Modifier.isFinal(field.getModifiers()))
                        setters.put(field.getName(), field);
                }
            Method[] methods = type.getMethods();
            java.util.Arrays.sort(methods, (a, b) -> a.getName().compareTo(b.getName()));
            for (Method method : methods)
                add(type, method);
            setters.forEach((name, setter) -> settersWithoutCase.put(name.toLowerCase(Locale.ROOT), setter));
        }

        private void add(Class<?> type, Method method) {
            String name = method.getName();
            if (Modifier.isStatic(method.getModifiers()) || method.getDeclaringClass() == Object.class || method.isBridge())
                return;
            boolean hasValue = method.getParameterCount() == 0 && method.getReturnType() != void.class;
            if (hasValue && name.length() > 3 && name.startsWith("get"))
                getters.put(property(name, 3), open(method));
            else if (hasValue && name.length() > 2 && name.startsWith("is") && method.getReturnType() == boolean.class)
                getters.put(property(name, 2), open(method));
            else if (method.getParameterCount() == 1 && name.length() > 3 && name.startsWith("set"))
                setters.put(property(name, 3), open(method));
            else if (hasValue && isRecord(type) && isComponent(type, name))
                getters.put(name, open(method));
        }

        private static Member open(Method method) {
            method.trySetAccessible(); // a public method of a class that is not
            return method;
        }

        /** "getFooBar" is fooBar, "getURL" is url: leading capitals are lowered together, as Jackson does. */
        private static String property(String method, int prefix) {
            char[] name = method.substring(prefix).toCharArray();
            for (int i = 0; i < name.length && Character.isUpperCase(name[i]); i++)
                name[i] = Character.toLowerCase(name[i]);
            return new String(name);
        }

        static boolean isRecord(Class<?> type) {
            return type.getSuperclass() != null && type.getSuperclass().getName().equals("java.lang.Record");
        }

        private static boolean isComponent(Class<?> type, String name) {
            try {
                return !Modifier.isStatic(type.getDeclaredField(name).getModifiers());
            } catch (NoSuchFieldException e) {
                return false;
            }
        }
    }

    private static Bean bean(Class<?> type) {
        return BEANS.computeIfAbsent(type, Bean::new);
    }

    // ---- types ----

    /** The argument that `type` gives for parameter `index` of the generic interface or class `of`; Object if none. */
    static Type argument(Type type, Class<?> of, int index) {
        Type found = find(type, of, Collections.emptyMap());
        if (!(found instanceof ParameterizedType))
            return Object.class;
        return ((ParameterizedType) found).getActualTypeArguments()[index];
    }

    private static Type find(Type type, Class<?> of, Map<TypeVariable<?>, Type> known) {
        Class<?> raw = raw(type);
        Map<TypeVariable<?>, Type> here = new HashMap<>();
        if (type instanceof ParameterizedType) {
            Type[] arguments = ((ParameterizedType) type).getActualTypeArguments();
            for (int i = 0; i < arguments.length; i++)
                here.put(raw.getTypeParameters()[i], replace(arguments[i], known));
        }
        if (raw == of)
            return type instanceof ParameterizedType ? replace(type, known) : type;
        List<Type> supers = new ArrayList<>(List.of(raw.getGenericInterfaces()));
        if (raw.getGenericSuperclass() != null)
            supers.add(raw.getGenericSuperclass());
        for (Type above : supers)
            if (of.isAssignableFrom(raw(above)))
                return find(above, of, here);
        return of;
    }

    private static Type replace(Type type, Map<TypeVariable<?>, Type> known) {
        if (type instanceof TypeVariable)
            return known.getOrDefault(type, raw(type));
        if (!(type instanceof ParameterizedType))
            return type;
        ParameterizedType from = (ParameterizedType) type;
        Type[] arguments = from.getActualTypeArguments().clone();
        for (int i = 0; i < arguments.length; i++)
            arguments[i] = replace(arguments[i], known);
        return new ParameterizedType() {
            @Override
            public Type[] getActualTypeArguments() {
                return arguments;
            }

            @Override
            public Type getRawType() {
                return from.getRawType();
            }

            @Override
            public Type getOwnerType() {
                return from.getOwnerType();
            }
        };
    }

    static Class<?> raw(Type type) {
        if (type instanceof Class)
            return (Class<?>) type;
        if (type instanceof ParameterizedType)
            return (Class<?>) ((ParameterizedType) type).getRawType();
        if (type instanceof GenericArrayType)
            return Array.newInstance(raw(((GenericArrayType) type).getGenericComponentType()), 0).getClass();
        if (type instanceof WildcardType)
            return raw(((WildcardType) type).getUpperBounds()[0]);
        return type instanceof TypeVariable ? raw(((TypeVariable<?>) type).getBounds()[0]) : Object.class;
    }

    // ---- JSON values to types ----

    /** Throws IllegalArgumentException when the value does not fit. */
    static Object convert(Object value, Type type) {
        Class<?> raw = raw(type);
        if (value == null)
            return raw.isPrimitive() ? Array.get(Array.newInstance(raw, 1), 0) : raw == Optional.class ? Optional.empty() : null;
        if (raw == Object.class)
            return value;
        if (raw == Optional.class)
            return Optional.of(convert(value, argument(type, Optional.class, 0)));
        if (value instanceof Map)
            return fromMap((Map<?, ?>) value, type, raw);
        if (value instanceof List)
            return fromList((List<?>) value, type, raw);
        return fromScalar(value, raw);
    }

    private static IllegalArgumentException misfit(Object value, Class<?> type) {
        String what = value instanceof Map ? "an object" : value instanceof List ? "an array"
            : value instanceof String ? "the string \"" + shortened((String) value) + "\"" : value.toString();
        return new IllegalArgumentException("Cannot make a value of type " + type.getTypeName() + " from " + what);
    }

    private static String shortened(String text) {
        return text.length() <= 100 ? text : text.substring(0, 100) + "...";
    }

    private static Object fromScalar(Object value, Class<?> type) {
        if (type.isInstance(value))
            return value;
        if (type == String.class || type == CharSequence.class)
            return value.toString();
        try {
            if (type == boolean.class || type == Boolean.class)
                return value instanceof Boolean ? value : parseBoolean(value, type);
            if (value instanceof Number || value instanceof String && !((String) value).isEmpty()) {
                Object number = fromNumber(value, type);
                if (number != null)
                    return number;
            }
            if (value instanceof String)
                return fromString((String) value, type);
        } catch (NumberFormatException | ArithmeticException e) {
            throw misfit(value, type);
        }
        throw misfit(value, type);
    }

    private static Object parseBoolean(Object value, Class<?> type) {
        if (value.equals("true") || value.equals("false"))
            return value.equals("true");
        throw misfit(value, type);
    }

    private static Object fromNumber(Object value, Class<?> type) {
        if (type == int.class || type == Integer.class)
            return whole(value).intValueExact();
        if (type == long.class || type == Long.class)
            return whole(value).longValueExact();
        if (type == double.class || type == Double.class)
            return Double.valueOf(value.toString());
        if (type == float.class || type == Float.class)
            return Float.valueOf(value.toString());
        if (type == short.class || type == Short.class)
            return whole(value).shortValueExact();
        if (type == byte.class || type == Byte.class)
            return whole(value).byteValueExact();
        if (type == BigInteger.class)
            return whole(value);
        if (type == BigDecimal.class || type == Number.class)
            return new BigDecimal(value.toString());
        if (type == Date.class && value instanceof Number)
            return new Date(value instanceof Double ? (long) ((Double) value * 1000) : ((Number) value).longValue());
        return null;
    }

    /** Jackson cuts what is behind the point, too. The exponent is bounded: 1e999999999 would fill the memory. */
    private static BigInteger whole(Object value) {
        if (value instanceof Integer || value instanceof Long)
            return BigInteger.valueOf(((Number) value).longValue());
        BigDecimal number = new BigDecimal(value.toString());
        if (Math.abs((long) number.scale()) > 400)
            throw new ArithmeticException("out of range");
        return number.toBigInteger();
    }

    @SuppressWarnings({"unchecked", "rawtypes"})
    private static Object fromString(String value, Class<?> type) {
        try {
            if (type == char.class || type == Character.class)
                if (value.length() == 1)
                    return value.charAt(0);
            if (type.isEnum())
                return Enum.valueOf((Class) type, value);
            if (type == byte[].class)
                return Base64.getDecoder().decode(value);
            if (type == ByteBuffer.class)
                return ByteBuffer.wrap(Base64.getDecoder().decode(value));
            if (type == java.util.UUID.class)
                return java.util.UUID.fromString(value);
            if (type == Date.class)
                return Date.from(java.time.OffsetDateTime.parse(value).toInstant());
            if (type.getName().startsWith("java.time.") || type.getName().startsWith("org.joda.time."))
                return type.getMethod("parse", CharSequence.class).invoke(null, value);
        } catch (ReflectiveOperationException | RuntimeException e) {
            throw misfit(value, type);
        }
        if (value.isEmpty() && !type.isPrimitive())
            return null;
        throw misfit(value, type);
    }

    private static Object fromList(List<?> value, Type type, Class<?> raw) {
        if (raw.isArray()) {
            Type element = type instanceof GenericArrayType ? ((GenericArrayType) type).getGenericComponentType()
                : raw.getComponentType();
            Object array = Array.newInstance(raw.getComponentType(), value.size());
            for (int i = 0; i < value.size(); i++)
                Array.set(array, i, convert(value.get(i), element));
            return array;
        }
        Type element = Collection.class.isAssignableFrom(raw) ? argument(type, Collection.class, 0) : Object.class;
        Collection<Object> collection = newCollection(value, raw, type);
        for (Object one : value)
            collection.add(convert(one, element));
        return collection;
    }

    @SuppressWarnings("unchecked")
    private static Collection<Object> newCollection(List<?> value, Class<?> raw, Type type) {
        if (raw.isAssignableFrom(ArrayList.class))
            return new ArrayList<>(value.size());
        if (raw == Set.class || raw == LinkedHashSet.class)
            return new LinkedHashSet<>();
        if (raw == SortedSet.class || raw == java.util.NavigableSet.class)
            return new TreeSet<>();
        if (raw == Queue.class || raw == java.util.Deque.class)
            return new ArrayDeque<>();
        if (Collection.class.isAssignableFrom(raw) && !Modifier.isAbstract(raw.getModifiers()))
            return (Collection<Object>) make(raw, value);
        throw misfit(value, raw);
    }

    private static Object fromMap(Map<?, ?> value, Type type, Class<?> raw) {
        if (raw.isAssignableFrom(LinkedHashMap.class) || Map.class.isAssignableFrom(raw)) {
            boolean plain = !Map.class.isAssignableFrom(raw);
            Type keys = plain ? Object.class : argument(type, Map.class, 0);
            Type values = plain ? Object.class : argument(type, Map.class, 1);
            Map<Object, Object> map = newMap(value, raw);
            for (Map.Entry<?, ?> entry : value.entrySet())
                map.put(convert(entry.getKey(), keys), convert(entry.getValue(), values));
            return map;
        }
        if (raw.isPrimitive() || raw.isArray() || raw.isEnum() || raw.getName().startsWith("java."))
            throw misfit(value, raw);
        return Bean.isRecord(raw) ? makeRecord(value, type, raw) : makeBean(value, type, raw);
    }

    @SuppressWarnings("unchecked")
    private static Map<Object, Object> newMap(Object value, Class<?> raw) {
        if (raw.isAssignableFrom(LinkedHashMap.class))
            return new LinkedHashMap<>();
        if (raw == SortedMap.class || raw == java.util.NavigableMap.class)
            return new TreeMap<>();
        if (raw == ConcurrentMap.class)
            return new ConcurrentHashMap<>();
        return (Map<Object, Object>) make(raw, value);
    }

    private static Object make(Class<?> type, Object value) {
        try {
            Constructor<?> constructor = type.getDeclaredConstructor();
            constructor.setAccessible(true);
            return constructor.newInstance();
        } catch (NoSuchMethodException | InstantiationException e) {
            throw new IllegalArgumentException("Cannot make a value of type " + type.getTypeName()
                + ": it has no constructor without parameters", e);
        } catch (InvocationTargetException e) {
            throw new IllegalArgumentException("The constructor of " + type.getTypeName() + " failed", e.getCause());
        } catch (IllegalAccessException | RuntimeException e) {
            throw misfit(value, type);
        }
    }

    private static Object makeBean(Map<?, ?> value, Type type, Class<?> raw) {
        Bean bean = bean(raw);
        Object made = make(raw, value);
        for (Map.Entry<?, ?> entry : value.entrySet()) {
            String name = (String) entry.getKey();
            Member setter = bean.setters.get(name);
            if (setter == null)
                setter = bean.settersWithoutCase.get(name.toLowerCase(Locale.ROOT));
            if (setter != null)
                set(made, setter, entry.getValue(), type, name);
        }
        return made;
    }

    private static void set(Object bean, Member setter, Object value, Type type, String name) {
        try {
            if (setter instanceof Field)
                ((Field) setter).set(bean, convert(value, ((Field) setter).getGenericType()));
            else
                ((Method) setter).invoke(bean, convert(value, ((Method) setter).getGenericParameterTypes()[0]));
        } catch (InvocationTargetException e) {
            throw new IllegalArgumentException(raw(type).getTypeName() + "." + name + ": the setter failed", e.getCause());
        } catch (IllegalAccessException | IllegalArgumentException e) {
            throw new IllegalArgumentException(raw(type).getTypeName() + "." + name + ": " + e.getMessage(), e);
        }
    }

    /** A record's canonical constructor takes its fields in their order. */
    private static Object makeRecord(Map<?, ?> value, Type type, Class<?> raw) {
        List<Class<?>> types = new ArrayList<>();
        List<Object> arguments = new ArrayList<>();
        for (Field field : raw.getDeclaredFields()) {
            if (Modifier.isStatic(field.getModifiers()))
                continue;
            types.add(field.getType());
            arguments.add(convert(value.get(field.getName()), field.getGenericType()));
        }
        try {
            Constructor<?> constructor = raw.getDeclaredConstructor(types.toArray(new Class<?>[0]));
            constructor.setAccessible(true);
            return constructor.newInstance(arguments.toArray());
        } catch (InvocationTargetException e) {
            throw new IllegalArgumentException("The constructor of " + raw.getTypeName() + " failed", e.getCause());
        } catch (ReflectiveOperationException e) {
            throw new IllegalArgumentException("Cannot make a value of type " + raw.getTypeName(), e);
        }
    }

    // ---- values to JSON text ----

    static byte[] toJson(Object value) {
        StringBuilder out = new StringBuilder();
        write(value, out, 0);
        return out.toString().getBytes(StandardCharsets.UTF_8);
    }

    private static void write(Object value, StringBuilder out, int depth) {
        if (depth > DEPTH_MAX)
            throw new IllegalArgumentException("the answer is nested too deeply, or holds itself");
        if (value == null)
            out.append("null");
        else if (value instanceof CharSequence || value instanceof Character)
            Json.quote(value.toString(), out);
        else if (value instanceof Number || value instanceof Boolean)
            writePlain(value, out);
        else if (value instanceof Map)
            writeMap((Map<?, ?>) value, out, depth);
        else if (value instanceof Iterable && !(value instanceof java.nio.file.Path))
            writeAll((Iterable<?>) value, out, depth);
        else if (value.getClass().isArray())
            writeArray(value, out, depth);
        else if (!writeKnown(value, out, depth))
            writeBean(value, out, depth);
    }

    private static void writePlain(Object value, StringBuilder out) {
        boolean finite = !(value instanceof Double && !Double.isFinite((Double) value))
            && !(value instanceof Float && !Float.isFinite((Float) value));
        out.append(finite ? value.toString() : "\"" + value + "\"");
    }

    private static void writeMap(Map<?, ?> map, StringBuilder out, int depth) {
        char before = '{';
        for (Map.Entry<?, ?> entry : map.entrySet()) {
            out.append(before);
            before = ',';
            Json.quote(String.valueOf(entry.getKey()), out);
            out.append(':');
            write(entry.getValue(), out, depth + 1);
        }
        out.append(before == '{' ? "{}" : "}");
    }

    private static void writeAll(Iterable<?> values, StringBuilder out, int depth) {
        char before = '[';
        for (Object value : values) {
            out.append(before);
            before = ',';
            write(value, out, depth + 1);
        }
        out.append(before == '[' ? "[]" : "]");
    }

    private static void writeArray(Object array, StringBuilder out, int depth) {
        if (array instanceof byte[]) {
            out.append('"').append(Base64.getEncoder().encodeToString((byte[]) array)).append('"');
            return;
        }
        List<Object> list = new ArrayList<>();
        for (int i = 0; i < Array.getLength(array); i++)
            list.add(Array.get(array, i));
        writeAll(list, out, depth);
    }

    private static boolean writeKnown(Object value, StringBuilder out, int depth) {
        if (value instanceof Optional)
            write(((Optional<?>) value).orElse(null), out, depth);
        else if (value instanceof Enum)
            Json.quote(((Enum<?>) value).name(), out);
        else if (value instanceof Date)
            out.append(((Date) value).getTime());
        else if (value instanceof ByteBuffer) {
            ByteBuffer copy = ((ByteBuffer) value).duplicate();
            byte[] bytes = new byte[copy.remaining()];
            copy.get(bytes);
            writeArray(bytes, out, depth);
        } else if (value instanceof Class)
            Json.quote(((Class<?>) value).getName(), out);
        else if (value.getClass().getName().startsWith("java.") || value.getClass().getName().startsWith("sun."))
            Json.quote(value.toString(), out); // UUID, URI, Instant, AtomicInteger...
        else
            return false;
        return true;
    }

    private static void writeBean(Object value, StringBuilder out, int depth) {
        char before = '{';
        for (Map.Entry<String, Member> getter : bean(value.getClass()).getters.entrySet()) {
            out.append(before);
            before = ',';
            Json.quote(getter.getKey(), out);
            out.append(':');
            write(get(value, getter.getValue()), out, depth + 1);
        }
        out.append(before == '{' ? "{}" : "}");
    }

    private static Object get(Object bean, Member getter) {
        try {
            return getter instanceof Field ? ((Field) getter).get(bean) : ((Method) getter).invoke(bean);
        } catch (InvocationTargetException e) {
            throw new IllegalArgumentException(getter.getName() + " of " + bean.getClass().getTypeName() + " failed",
                e.getCause());
        } catch (IllegalAccessException e) {
            throw new IllegalArgumentException(getter.getName() + " of " + bean.getClass().getTypeName()
                + " cannot be called", e);
        }
    }
}
