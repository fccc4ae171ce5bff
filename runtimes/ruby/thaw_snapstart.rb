# frozen_string_literal: true

# Runtime hooks of SnapStart functions. Those for before the snapshot run in the reverse order of their registration, those
# for after a restore in order. Where nothing is frozen, they never run.
#
#   require 'thaw_snapstart'
#   ThawSnapstart.before_snapshot { cache.fill }
#   ThawSnapstart.after_restore { database.reconnect }
module ThawSnapstart
  @before_snapshot = []
  @after_restore = []

  class << self
    def before_snapshot(&hook) = register(@before_snapshot, hook)

    def after_restore(&hook) = register(@after_restore, hook)

    # For the runtime:

    def after_restore? = !@after_restore.empty?

    def run_before_snapshot = (@before_snapshot.pop.call until @before_snapshot.empty?)

    def run_after_restore = @after_restore.each(&:call)

    # Clones of one snapshot begin with the same random state: give this one its own. SecureRandom asks the kernel each time.
    def make_unique
      srand
      # OpenSSL tells processes apart by their id, which clones share.
      OpenSSL::Random.random_add(Random.urandom(32), 32.0) if defined?(OpenSSL::Random)
    end

    private

    def register(list, hook)
      raise ArgumentError, 'a hook must be a block' unless hook

      list << hook
      hook
    end
  end
end
