using System;
using System.Security.Cryptography;
using Thaw.Runtime;

/// <summary>
/// What .NET calls before the Main of an executable that speaks to the Runtime API by itself (start.sh names this
/// assembly in DOTNET_STARTUP_HOOKS): its clones are to differ, too. When it will be frozen is not known here, so that
/// OpenSSL is loaded at once.
/// </summary>
internal static class StartupHook
{
    public static void Initialize()
    {
        Unique.Begin();
        try {
            RandomNumberGenerator.GetBytes(1);
        } catch (Exception e) when (e is TypeInitializationException or DllNotFoundException) {
            return; // a host without OpenSSL: nothing can draw from it
        }
        Unique.Prepare();
    }
}
