"""The managed runtime's program. All of it is in thaw_runtime, which the interpreter can keep compiled."""

import thaw_runtime

if __name__ == "__main__":
    thaw_runtime.main()
