using System;
using System.Collections.Generic;
using System.IO;
using System.Reflection;
using System.Reflection.Emit;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Threading;

namespace Thaw.Runtime;

/// <summary>
/// Clones of one snapshot hold the same random state. Guid and what Random.Shared begins with come from the kernel each
/// time. The rest is made so: Random.Shared is replaced by one that notices, in every thread by itself, that it is in a
/// new clone; and OpenSSL, from which all of System.Security.Cryptography draws, is told to take the kernel's bytes.
/// </summary>
internal static unsafe class Unique
{
    private const int PageBytes = 4096, ReadWrite = 3, PrivateAnonymous = 0x22, WipeOnFork = 18;
    private const long Failed = -1;

    private static long* stamp; // in a page that the kernel wipes in every clone
    private static OpenSslMethod* method;

    [DllImport("libc.so.6", SetLastError = true)]
    private static extern long mmap(void* at, nint size, int protection, int flags, int fd, nint offset);

    [DllImport("libc.so.6", SetLastError = true)]
    private static extern int madvise(void* at, nint size, int advice);

    [DllImport("libc.so.6", SetLastError = true)]
    private static extern nint getrandom(byte* to, nint size, uint flags);

    /// <summary>At start: before anything of the function's runs.</summary>
    public static void Begin()
    {
        long at = mmap(null, PageBytes, ReadWrite, PrivateAnonymous, -1, 0);
        if (at == Failed || madvise((void*)at, PageBytes, WipeOnFork) != 0)
            throw new InvalidOperationException("the kernel gives no memory that is wiped in clones");
        stamp = (long*)at;
        ReplaceShared(new SharedRandom());
        Random.Shared.Next();
    }

    private static void Fill(byte* to, nint size)
    {
        for (nint done = 0; done < size;) {
            nint got = getrandom(to + done, size - done, 0);
            if (got < 0 && Marshal.GetLastPInvokeError() != 4) // EINTR
                throw new InvalidOperationException("the kernel gives no random bytes");
            done += got < 0 ? 0 : got;
        }
    }

    /// <summary>Before the snapshot, when the function has been loaded.</summary>
    public static void Prepare()
    {
        ReplaceOpenSsl();
        ForgetTraces();
    }

    // ---- Random.Shared ----

    /// <summary>The field is read-only to reflection, but not to code; it is set before anybody has read it.</summary>
    private static void ReplaceShared(Random by)
    {
        RuntimeHelpers.RunClassConstructor(typeof(Random).TypeHandle);
        FieldInfo field = typeof(Random).GetField("<Shared>k__BackingField", BindingFlags.Static | BindingFlags.NonPublic) ??
            throw new NotSupportedException("this .NET keeps Random.Shared elsewhere");
        var set = new DynamicMethod("set", null, new[] { typeof(Random) }, typeof(Random), true);
        ILGenerator code = set.GetILGenerator();
        code.Emit(OpCodes.Ldarg_0);
        code.Emit(OpCodes.Stsfld, field);
        code.Emit(OpCodes.Ret);
        set.CreateDelegate<Action<Random>>()(by);
        if (!ReferenceEquals(Random.Shared, by))
            throw new NotSupportedException("this .NET does not let Random.Shared be replaced");
    }

    private sealed class SharedRandom : Random
    {
        [ThreadStatic] private static Random? own;
        [ThreadStatic] private static long made;

        /// <summary>This thread's generator, made in this clone and seeded by the kernel.</summary>
        private static Random Own
        {
            get {
                long now = Volatile.Read(ref *stamp);
                if (now == 0) {
                    long fresh = 0;
                    Fill((byte*)&fresh, sizeof(long));
                    now = Interlocked.CompareExchange(ref *stamp, fresh | 1, 0) is var other && other != 0 ? other : fresh | 1;
                }
                if (own == null || made != now) {
                    own = new Random();
                    made = now;
                }
                return own;
            }
        }

        public override int Next() => Own.Next();
        public override int Next(int max) => Own.Next(max);
        public override int Next(int min, int max) => Own.Next(min, max);
        public override long NextInt64() => Own.NextInt64();
        public override long NextInt64(long max) => Own.NextInt64(max);
        public override long NextInt64(long min, long max) => Own.NextInt64(min, max);
        public override float NextSingle() => Own.NextSingle();
        public override double NextDouble() => Own.NextDouble();
        public override void NextBytes(byte[] bytes) => Own.NextBytes(bytes);
        public override void NextBytes(Span<byte> bytes) => Own.NextBytes(bytes);
        protected override double Sample() => Own.NextDouble();
    }

    // ---- OpenSSL ----

    /// <summary>OpenSSL's RAND_METHOD: where its random bytes come from.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct OpenSslMethod
    {
        public void* Seed;
        public delegate* unmanaged<byte*, int, int> Bytes;
        public void* Cleanup, Add;
        public delegate* unmanaged<byte*, int, int> PseudoBytes;
        public delegate* unmanaged<int> Status;
    }

    [UnmanagedCallersOnly]
    private static int GiveBytes(byte* to, int size)
    {
        try {
            Fill(to, size);
            return 1;
        } catch (Exception) {
            return 0;
        }
    }

    [UnmanagedCallersOnly]
    private static int GiveStatus() => 1;

    /// <summary>
    /// Every OpenSSL that is loaded takes the kernel's bytes from here on, in all threads. One that is loaded in a clone
    /// seeds itself there.
    /// </summary>
    private static void ReplaceOpenSsl()
    {
        if (method == null) {
            method = (OpenSslMethod*)NativeMemory.AllocZeroed((nuint)sizeof(OpenSslMethod));
            method->Bytes = &GiveBytes;
            method->PseudoBytes = &GiveBytes;
            method->Status = &GiveStatus;
        }
        foreach (string path in LoadedOpenSsl())
            if (NativeLibrary.TryGetExport(NativeLibrary.Load(path), "RAND_set_rand_method", out nint set) &&
                ((delegate* unmanaged<OpenSslMethod*, int>)set)(method) != 1)
                throw new InvalidOperationException($"{path} does not take another source of random bytes");
    }

    private static IEnumerable<string> LoadedOpenSsl()
    {
        var found = new HashSet<string>();
        foreach (string line in File.ReadLines("/proc/self/maps")) {
            int at = line.IndexOf('/');
            if (at >= 0 && Path.GetFileName(line.AsSpan(at)).StartsWith("libcrypto.so", StringComparison.Ordinal))
                found.Add(line.Substring(at));
        }
        return found;
    }

    // ---- System.Diagnostics ----

    private const int PatienceMs = 300;

    /// <summary>
    /// The identities of activities (traces, spans) come from a generator of each thread's, which it makes when it has
    /// none: so this one and those of the pool forget theirs. A function's own threads are out of reach.
    /// </summary>
    private static void ForgetTraces()
    {
        FieldInfo? kept = Type.GetType("System.Diagnostics.RandomNumberGenerator, System.Diagnostics.DiagnosticSource")
            ?.GetField("t_random", BindingFlags.Static | BindingFlags.NonPublic);
        if (kept == null)
            return;
        kept.SetValue(null, null);
        int threads = ThreadPool.ThreadCount;
        if (threads == 0)
            return;
        using var all = new CountdownEvent(threads); // every one of them waits for the others, so that none does it twice
        for (int i = 0; i < threads; i++)
            ThreadPool.UnsafeQueueUserWorkItem(_ => {
                kept.SetValue(null, null);
                try {
                    all.Signal();
                    all.Wait(PatienceMs);
                } catch (ObjectDisposedException) {
                    // This one was late, as something else kept the pool busy.
                }
            }, null);
        all.Wait(PatienceMs);
    }
}
