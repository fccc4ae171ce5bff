package thaw.runtime;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** JSON text to Map, List, String, Integer, Long, BigInteger, Double, Boolean or null, and strings back to text. */
final class Json {
    private static final int DEPTH_MAX = 512;

    private final String text;
    private int at;

    private Json(String text) {
        this.text = text;
    }

    /** Throws IllegalArgumentException, saying where the text is not JSON. */
    static Object parse(byte[] utf8) {
        return parse(new String(utf8, StandardCharsets.UTF_8));
    }

    static Object parse(String text) {
        Json json = new Json(text);
        Object value = json.value(0);
        json.skipSpace();
        if (json.at < text.length())
            throw json.wrong("more after the end of the value");
        return value;
    }

    private IllegalArgumentException wrong(String what) {
        return new IllegalArgumentException(what + " at character " + at);
    }

    private void skipSpace() {
        while (at < text.length() && text.charAt(at) <= ' ')
            at++;
    }

    private char peek() {
        skipSpace();
        if (at == text.length())
            throw wrong("unexpected end of input");
        return text.charAt(at);
    }

    private Object value(int depth) {
        if (depth > DEPTH_MAX)
            throw wrong("nested too deeply");
        switch (peek()) {
            case '{':
                return object(depth);
            case '[':
                return array(depth);
            case '"':
                return string();
            case 't':
                return word("true", true);
            case 'f':
                return word("false", false);
            case 'n':
                return word("null", null);
            default:
                return number();
        }
    }

    private Object word(String word, Object value) {
        if (!text.startsWith(word, at))
            throw wrong("unexpected character '" + text.charAt(at) + "'");
        at += word.length();
        return value;
    }

    private Map<String, Object> object(int depth) {
        Map<String, Object> map = new LinkedHashMap<>();
        at++;
        if (peek() == '}') {
            at++;
            return map;
        }
        while (true) {
            if (peek() != '"')
                throw wrong("a name was expected");
            String name = string();
            if (peek() != ':')
                throw wrong("':' was expected");
            at++;
            map.put(name, value(depth + 1));
            if (endOf('}'))
                return map;
        }
    }

    private List<Object> array(int depth) {
        List<Object> list = new ArrayList<>();
        at++;
        if (peek() == ']') {
            at++;
            return list;
        }
        while (true) {
            list.add(value(depth + 1));
            if (endOf(']'))
                return list;
        }
    }

    private boolean endOf(char close) {
        char c = peek();
        if (c != ',' && c != close)
            throw wrong("',' or '" + close + "' was expected");
        at++;
        return c == close;
    }

    private String string() {
        int from = ++at;
        while (at < text.length() && text.charAt(at) != '"' && text.charAt(at) != '\\')
            at++;
        if (at < text.length() && text.charAt(at) == '"')
            return text.substring(from, at++);
        StringBuilder out = new StringBuilder(text.substring(from, at));
        while (at < text.length()) {
            char c = text.charAt(at++);
            if (c == '"')
                return out.toString();
            out.append(c == '\\' ? escape() : c);
        }
        throw wrong("a string without an end");
    }

    private char escape() {
        char c = at < text.length() ? text.charAt(at++) : 0;
        switch (c) {
            case 'b':
                return '\b';
            case 'f':
                return '\f';
            case 'n':
                return '\n';
            case 'r':
                return '\r';
            case 't':
                return '\t';
            case '"':
            case '\\':
            case '/':
                return c;
            case 'u':
                if (at + 4 <= text.length()) {
                    at += 4;
                    try {
                        return (char) Integer.parseInt(text.substring(at - 4, at), 16);
                    } catch (NumberFormatException e) {
                        throw wrong("a bad \\u escape");
                    }
                }
                throw wrong("a bad \\u escape");
            default:
                throw wrong("an unknown escape");
        }
    }

    private Number number() {
        int from = at;
        boolean whole = true;
        while (at < text.length() && "+-.eE0123456789".indexOf(text.charAt(at)) >= 0) {
            char c = text.charAt(at++);
            whole &= c != '.' && c != 'e' && c != 'E';
        }
        String digits = text.substring(from, at);
        try {
            if (!whole)
                return Double.valueOf(digits);
            if (digits.length() <= 18) {
                long value = Long.parseLong(digits);
                return value == (int) value ? (Number) (int) value : (Number) value;
            }
            BigInteger value = new BigInteger(digits);
            return value.bitLength() < 64 ? (Number) value.longValue() : value;
        } catch (NumberFormatException e) {
            at = from;
            throw wrong("unexpected character '" + text.charAt(at) + "'");
        }
    }

    static void quote(CharSequence value, StringBuilder out) {
        out.append('"');
        for (int i = 0; i < value.length(); i++) {
            char c = value.charAt(i);
            if (c == '"' || c == '\\')
                out.append('\\').append(c);
            else if (c == '\n')
                out.append("\\n");
            else if (c == '\r')
                out.append("\\r");
            else if (c == '\t')
                out.append("\\t");
            else if (c < ' ' || Character.isSurrogate(c) && !isPaired(value, i))
                out.append(String.format("\\u%04x", (int) c));
            else
                out.append(c);
        }
        out.append('"');
    }

    private static boolean isPaired(CharSequence value, int i) {
        return Character.isHighSurrogate(value.charAt(i))
            ? i + 1 < value.length() && Character.isLowSurrogate(value.charAt(i + 1))
            : i > 0 && Character.isHighSurrogate(value.charAt(i - 1));
    }

    static BigDecimal decimal(Number number) {
        return number instanceof BigInteger ? new BigDecimal((BigInteger) number) : new BigDecimal(number.toString());
    }
}
