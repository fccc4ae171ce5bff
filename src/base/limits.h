/* Every limit that more than one room knows. Lambda's own numbers: see docs; names say the unit. */
#pragma once

#define LIMIT_FUNCTION_NAME 64
#define LIMIT_HANDLER 128
#define LIMIT_DESCRIPTION 256
#define LIMIT_ARN 512
#define LIMIT_ENVIRONMENT_BYTES 4096
#define LIMIT_PAYLOAD_BYTES (6 * 1024 * 1024 + 100) /* 6291556 */
#define LIMIT_EVENT_PAYLOAD_BYTES (1024 * 1024)
#define LIMIT_REQUEST_BYTES 70167211 /* CreateFunction with its zip in base64 */
#define LIMIT_ZIP_BYTES 52428800
#define LIMIT_UNZIPPED_BYTES 262144000
#define LIMIT_MEMORY_MB_MIN 128
#define LIMIT_MEMORY_MB_MAX 10240
#define LIMIT_TIMEOUT_S_MAX 900
#define LIMIT_TMP_MB_MIN 512
#define LIMIT_TMP_MB_MAX 10240
#define LIMIT_LOG_TAIL_BYTES 4096
#define LIMIT_INIT_S 10 /* on-demand initialisation */
#define LIMIT_SNAPSTART_INIT_S 130
#define LIMIT_RESTORE_HOOKS_S 10
#define LIMIT_FUNCTION_PIDS 1024
#define LIMIT_FUNCTION_FDS 1024
