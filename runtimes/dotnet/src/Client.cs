using System;
using System.Globalization;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Thaw.Runtime;

/// <summary>An answer of the Runtime API. Its body is the reader's own.</summary>
internal sealed class Answer
{
    public int Status;
    public string Head = ""; // "HTTP/1.1 200 OK\r\nName: value\r\n..."
    public byte[] Body = Array.Empty<byte>();

    /// <summary>A field's value, null when it is absent.</summary>
    public string? Field(string name)
    {
        for (int at = Head.IndexOf('\n') + 1; at > 0; at = Head.IndexOf('\n', at) + 1) {
            int colon = at + name.Length;
            if (colon >= Head.Length || Head[colon] != ':' ||
                string.Compare(Head, at, name, 0, name.Length, StringComparison.OrdinalIgnoreCase) != 0)
                continue;
            int end = Head.IndexOf('\r', colon);
            return Head.Substring(colon + 1, (end < 0 ? Head.Length : end) - colon - 1).Trim();
        }
        return null;
    }
}

/// <summary>
/// The Runtime API's client: one connection, one request at a time, all of it blocking: the thread that waits for an
/// event is in one system call, and nothing else of the process is awake for it.
/// </summary>
internal sealed class Client
{
    private const string Api = "/2018-06-01/runtime/";
    private const int HeadMax = 65536;
    private const int JoinBytes = 65536; // shorter bodies leave in one call with their head

    private readonly string host;
    private readonly EndPoint address;
    private readonly byte[] next, prime, restore, ping;
    private byte[] buffer = new byte[8192];
    private int begin, end; // of what was received and not yet used
    private Socket? socket;

    public Client(string api)
    {
        int colon = api.LastIndexOf(':');
        string name = colon < 0 ? api : api.Substring(0, colon);
        int port = colon < 0 ? 80 : int.Parse(api.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture);
        address = IPAddress.TryParse(name, out IPAddress? known) ? new IPEndPoint(known, port) : new DnsEndPoint(name, port);
        host = " HTTP/1.1\r\nHost: " + api + "\r\n";
        next = Request("GET ", Api + "invocation/next", "\r\n");
        prime = Request("GET ", Api + "prime/next", "\r\n");
        restore = Request("GET ", Api + "restore/next", "\r\n");
        ping = Request("GET ", "/2018-06-01/ping", "\r\n");
        Connect();
    }

    private byte[] Request(string method, string path, string rest) =>
        Encoding.Latin1.GetBytes(method + path + host + rest);

    private Socket Connect()
    {
        AddressFamily family = address is IPEndPoint known ? known.AddressFamily : AddressFamily.InterNetwork;
        socket = new Socket(family, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        socket.Connect(address);
        begin = end = 0;
        return socket;
    }

    public Answer Next() => Get(next);

    public Answer Prime() => Get(prime);

    public Answer Restore() => Get(restore);

    /// <summary>A round trip that means nothing, and what else an answer takes.</summary>
    public Answer Rehearse()
    {
        PostHead("invocation/00000000-0000-0000-0000-000000000000/response", 1, "");
        return Get(ping);
    }

    private Answer Get(byte[] request)
    {
        Socket to = socket ?? Connect();
        SendAll(to, request, request.Length);
        return Receive(to);
    }

    private byte[] PostHead(string path, int length, string fields) => Request("POST ", Api + path,
        "Content-Type: application/json\r\nContent-Length: " + length.ToString(CultureInfo.InvariantCulture) + "\r\n" + fields + "\r\n");

    public Answer Post(string path, byte[] body, int length, string fields)
    {
        Socket to = socket ?? Connect();
        byte[] head = PostHead(path, length, fields);
        try {
            if (length <= JoinBytes) {
                int headLength = head.Length;
                Array.Resize(ref head, headLength + length);
                Buffer.BlockCopy(body, 0, head, headLength, length);
                SendAll(to, head, head.Length);
            } else {
                SendAll(to, head, head.Length);
                SendAll(to, body, length);
            }
        } catch (SocketException) {
            // Refused before all of it was sent: the answer says why.
        }
        return Receive(to);
    }

    /// <summary>Reports a failure of the given kind, one of the platform's own or the exception's class.</summary>
    public Answer PostError(string path, byte[] json, string kind) =>
        Post(path, json, json.Length, "Lambda-Runtime-Function-Error-Type: " + kind + "\r\n");

    private static void SendAll(Socket to, byte[] bytes, int length)
    {
        for (int done = 0; done < length;)
            done += to.Send(bytes, done, length - done, SocketFlags.None);
    }

    private void Fill(Socket from)
    {
        if (begin == end)
            begin = end = 0;
        if (end == buffer.Length) {
            if (end - begin >= HeadMax)
                throw new IOException("the Runtime API's answer has a head beyond all measure");
            byte[] to = begin > 0 ? buffer : new byte[buffer.Length * 2];
            Buffer.BlockCopy(buffer, begin, to, 0, end - begin);
            buffer = to;
            end -= begin;
            begin = 0;
        }
        int got = from.Receive(buffer, end, buffer.Length - end, SocketFlags.None);
        if (got == 0)
            throw new IOException("the Runtime API closed the connection");
        end += got;
    }

    /// <summary>What comes before the mark, which is taken too.</summary>
    private string ReadUntil(Socket from, string mark)
    {
        byte[] wanted = Encoding.Latin1.GetBytes(mark);
        while (true) {
            int at = buffer.AsSpan(begin, end - begin).IndexOf(wanted);
            if (at < 0) {
                Fill(from);
                continue;
            }
            string text = Encoding.Latin1.GetString(buffer, begin, at);
            begin += at + wanted.Length;
            return text;
        }
    }

    private void ReadInto(Socket from, byte[] to, int at, int length)
    {
        int had = Math.Min(length, end - begin);
        Buffer.BlockCopy(buffer, begin, to, at, had);
        begin += had;
        while (had < length) {
            int got = from.Receive(to, at + had, length - had, SocketFlags.None);
            if (got == 0)
                throw new IOException("the Runtime API closed the connection");
            had += got;
        }
    }

    private byte[] ReadChunks(Socket from)
    {
        byte[] body = Array.Empty<byte>();
        while (true) {
            string line = ReadUntil(from, "\r\n");
            int size = int.Parse(line.Split(';')[0].Trim(), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);
            int had = body.Length;
            Array.Resize(ref body, had + size);
            ReadInto(from, body, had, size);
            while (ReadUntil(from, "\r\n").Length > 0 && size == 0) {
                // trailers
            }
            if (size == 0)
                return body;
        }
    }

    private Answer Receive(Socket from)
    {
        string head = ReadUntil(from, "\r\n\r\n");
        var answer = new Answer { Head = head };
        answer.Status = int.Parse(head.AsSpan(9, 3), NumberStyles.None, CultureInfo.InvariantCulture);
        string? length = answer.Field("Content-Length");
        if (length != null) {
            answer.Body = new byte[int.Parse(length, NumberStyles.None, CultureInfo.InvariantCulture)];
            ReadInto(from, answer.Body, 0, answer.Body.Length);
        } else if ("chunked".Equals(answer.Field("Transfer-Encoding"), StringComparison.OrdinalIgnoreCase)) {
            answer.Body = ReadChunks(from);
        }
        if ("close".Equals(answer.Field("Connection"), StringComparison.OrdinalIgnoreCase)) {
            from.Dispose();
            socket = null;
        }
        return answer;
    }
}
