package thaw.runtime;

import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/** The Runtime API's client: one connection, one request at a time. Answers come with a length, or chunked. */
final class Client {
    private static final String API = "/2018-06-01/runtime/";
    private static final int HEAD_MAX = 65536;
    private static final int JOIN_BYTES = 65536; // shorter bodies leave in one call with their head

    /** An answer. It is valid until the next request. */
    static final class Answer {
        int status;
        String head; // "HTTP/1.1 200 OK\r\nName: value\r\n..."
        byte[] body;

        /** A field's value, null when it is absent. */
        String field(String name) {
            int at = 0;
            while ((at = head.indexOf('\n', at) + 1) > 0) {
                int colon = at + name.length();
                if (colon < head.length() && head.charAt(colon) == ':' && head.regionMatches(true, at, name, 0, name.length())) {
                    int end = head.indexOf('\r', colon);
                    return head.substring(colon + 1, end < 0 ? head.length() : end).trim();
                }
            }
            return null;
        }
    }

    private final InetSocketAddress address;
    private final String host;
    private final byte[] next, prime, restore, ping;
    private final Answer answer = new Answer();
    private byte[] buffer = new byte[8192];
    private int begin, end; // of what was received and not yet used
    private Socket socket;
    private InputStream in;
    private OutputStream out;

    Client(String api) throws IOException {
        int colon = api.lastIndexOf(':');
        address = new InetSocketAddress(colon < 0 ? api : api.substring(0, colon),
            colon < 0 ? 80 : Integer.parseInt(api.substring(colon + 1)));
        host = " HTTP/1.1\r\nHost: " + api + "\r\n";
        next = head("GET ", API + "invocation/next", "\r\n");
        prime = head("GET ", API + "prime/next", "\r\n");
        restore = head("GET ", API + "restore/next", "\r\n");
        ping = head("GET ", "/2018-06-01/ping", "\r\n");
        connect();
    }

    private byte[] head(String method, String path, String rest) {
        return (method + path + host + rest).getBytes(StandardCharsets.ISO_8859_1);
    }

    private void connect() throws IOException {
        socket = new Socket();
        socket.setTcpNoDelay(true);
        socket.connect(address);
        in = socket.getInputStream();
        out = socket.getOutputStream();
        begin = end = 0;
    }

    Answer next() throws IOException {
        return get(next);
    }

    Answer prime() throws IOException {
        return get(prime);
    }

    Answer restore() throws IOException {
        return get(restore);
    }

    private Answer get(byte[] request) throws IOException {
        if (socket == null)
            connect();
        out.write(request);
        return receive();
    }

    private byte[] postHead(String path, int length, String fields) {
        return head("POST ", API + path,
            "Content-Type: application/json\r\nContent-Length: " + length + "\r\n" + fields + "\r\n");
    }

    /** A round trip that means nothing, and what else an answer takes. */
    Answer rehearse() throws IOException {
        postHead("invocation/" + "00000000-0000-0000-0000-000000000000" + "/response", 1, "");
        return get(ping);
    }

    Answer post(String path, byte[] body, int length, String fields) throws IOException {
        if (socket == null)
            connect();
        byte[] head = postHead(path, length, fields);
        try {
            if (length <= JOIN_BYTES) {
                byte[] all = Arrays.copyOf(head, head.length + length);
                System.arraycopy(body, 0, all, head.length, length);
                out.write(all);
            } else {
                out.write(head);
                out.write(body, 0, length);
            }
        } catch (IOException e) {
            // Refused before all of it was sent: the answer says why.
        }
        return receive();
    }

    /** Reports a failure of the given kind, one of the platform's own or the exception's class. */
    Answer postError(String path, byte[] json, String kind) throws IOException {
        return post(path, json, json.length, "Lambda-Runtime-Function-Error-Type: " + kind + "\r\n");
    }

    private void fill() throws IOException {
        if (begin == end)
            begin = end = 0;
        if (end == buffer.length) {
            if (end - begin >= HEAD_MAX)
                throw new IOException("the Runtime API's answer has a head beyond all measure");
            byte[] to = begin > 0 ? buffer : new byte[buffer.length * 2];
            System.arraycopy(buffer, begin, to, 0, end - begin);
            buffer = to;
            end -= begin;
            begin = 0;
        }
        int n = in.read(buffer, end, buffer.length - end);
        if (n < 0)
            throw new EOFException("the Runtime API closed the connection");
        end += n;
    }

    /** The text up to `mark`, which is consumed too. */
    private String readUntil(String mark) throws IOException {
        int from = begin;
        while (true) {
            for (int i = Math.max(begin, from); i + mark.length() <= end; i++) {
                int k = 0;
                while (k < mark.length() && buffer[i + k] == mark.charAt(k))
                    k++;
                if (k == mark.length()) {
                    String text = new String(buffer, begin, i - begin, StandardCharsets.ISO_8859_1);
                    begin = i + k;
                    return text;
                }
            }
            int tested = Math.max(0, end - begin - mark.length() + 1);
            fill();
            from = begin + tested;
        }
    }

    private byte[] readBytes(int length) throws IOException {
        byte[] body = new byte[length];
        int have = Math.min(length, end - begin);
        System.arraycopy(buffer, begin, body, 0, have);
        begin += have;
        if (in.readNBytes(body, have, length - have) < length - have)
            throw new EOFException("the Runtime API closed the connection");
        return body;
    }

    private byte[] readChunks() throws IOException {
        byte[] body = new byte[0];
        while (true) {
            String line = readUntil("\r\n");
            int semicolon = line.indexOf(';');
            int size = Integer.parseInt((semicolon < 0 ? line : line.substring(0, semicolon)).trim(), 16);
            if (size == 0)
                break;
            byte[] chunk = readBytes(size);
            body = Arrays.copyOf(body, body.length + size);
            System.arraycopy(chunk, 0, body, body.length - size, size);
            readUntil("\r\n");
        }
        while (!readUntil("\r\n").isEmpty()) {
            // Trailers say nothing that we want.
        }
        return body;
    }

    private Answer receive() throws IOException {
        answer.head = readUntil("\r\n\r\n");
        answer.status = Integer.parseInt(answer.head.substring(9, 12));
        String length = answer.field("Content-Length");
        if (length != null)
            answer.body = readBytes(Integer.parseInt(length));
        else
            answer.body = answer.field("Transfer-Encoding") != null ? readChunks() : new byte[0];
        if ("close".equalsIgnoreCase(answer.field("Connection"))) {
            socket.close();
            socket = null;
        }
        return answer;
    }
}
