# frozen_string_literal: true

# Runs a Ruby function: the Runtime API's client for the managed runtimes ruby3.N.
#
# What lies between the snapshot and the first event is part of every thaw, so it is short, and has run before.

require 'json'
require 'socket'
require 'stringio'
require_relative 'thaw_snapstart'

module ThawRuntime
  API = '/2018-06-01/runtime/'
  EXIT_INIT = 1
  EXIT_BEFORE_SNAPSHOT = 64
  EXIT_AFTER_RESTORE = 65
  WARM_UP_ROUNDS = 20

  Answer = Struct.new(:status, :fields, :body)

  # One connection, one request at a time. Answers come with a length, or chunked.
  class Client
    def initialize(api)
      @api = api
      host, _, port = api.rpartition(':')
      @address = [host, Integer(port)]
    end

    def get(path) = request("GET #{path} HTTP/1.1\r\nHost: #{@api}\r\n\r\n")

    def post(path, body, content_type = 'application/json')
      request("POST #{path} HTTP/1.1\r\nHost: #{@api}\r\nContent-Type: #{content_type}\r\n" \
              "Content-Length: #{body.bytesize}\r\n\r\n", body)
    end

    private

    def connect
      TCPSocket.new(*@address).tap { |socket| socket.setsockopt(Socket::IPPROTO_TCP, Socket::TCP_NODELAY, 1) }
    end

    def request(head, body = nil)
      @socket ||= connect
      begin
        body ? @socket.write(head, body) : @socket.write(head)
      rescue Errno::EPIPE, Errno::ECONNRESET
        # Refused before all of it was sent: the answer says why.
      end
      answer = receive
      return answer unless answer.fields['connection'] == 'close'

      @socket.close
      @socket = nil
      answer
    end

    def receive
      line = @socket.gets("\r\n") or raise EOFError, 'the Runtime API closed the connection'
      fields = {}
      while (field = @socket.gets("\r\n", chomp: true)) && !field.empty?
        name, _, value = field.partition(':')
        fields[name.downcase] = value.strip
      end
      Answer.new(line[9, 3].to_i, fields, receive_body(fields))
    end

    def receive_body(fields)
      length = fields['content-length']
      return @socket.read(length.to_i) if length
      return '' unless fields.key?('transfer-encoding')

      body = +''
      while (size = @socket.gets("\r\n").to_i(16)).positive?
        body << @socket.read(size)
        @socket.read(2)
      end
      @socket.gets("\r\n")
      body
    end
  end

  # What a handler gets beside its event.
  class LambdaContext
    attr_reader :aws_request_id, :invoked_function_arn, :log_group_name, :log_stream_name, :function_name,
                :memory_limit_in_mb, :function_version, :identity, :client_context, :deadline_ms

    FIXED = {
      log_group_name: 'AWS_LAMBDA_LOG_GROUP_NAME', log_stream_name: 'AWS_LAMBDA_LOG_STREAM_NAME',
      function_name: 'AWS_LAMBDA_FUNCTION_NAME', memory_limit_in_mb: 'AWS_LAMBDA_FUNCTION_MEMORY_SIZE',
      function_version: 'AWS_LAMBDA_FUNCTION_VERSION'
    }.transform_values { |variable| ENV.fetch(variable, nil) }.freeze

    def initialize(fields)
      @aws_request_id = fields['lambda-runtime-aws-request-id']
      @invoked_function_arn = fields['lambda-runtime-invoked-function-arn']
      @deadline_ms = fields['lambda-runtime-deadline-ms'].to_i
      @identity = parse(fields['lambda-runtime-cognito-identity'])
      @client_context = parse(fields['lambda-runtime-client-context'])
      FIXED.each { |name, value| instance_variable_set(:"@#{name}", value) }
    end

    def get_remaining_time_in_millis # rubocop:disable Naming/AccessorMethodName
      [@deadline_ms - Process.clock_gettime(Process::CLOCK_REALTIME, :millisecond), 0].max
    end

    private

    def parse(text) = text && JSON.parse(text)
  end

  # The method that _HANDLER names: "file.method" or "file.Module::Class.method".
  class Handler
    def initialize(name)
      parts = name.split('.', -1)
      unless [2, 3].include?(parts.size) && parts.none?(&:empty?)
        raise ArgumentError, "Invalid handler #{name}, must be of form FILENAME.METHOD or FILENAME.CLASS.METHOD, where " \
                             'FILENAME is a Ruby file of the function without its .rb, CLASS the one that METHOD is of'
      end
      @file = parts.first
      @constant = parts[1] if parts.size == 3
      @method = parts.last
    end

    def load
      require(@file.start_with?('/') ? @file : "./#{@file}")
      @receiver = @constant ? Object.const_get(@constant) : TOPLEVEL_BINDING.receiver
      self
    end

    def call(event, context) = @receiver.send(@method, event: event, context: context)
  end

  # Runs a function from its start to its end.
  class Bootstrap
    def initialize
      @client = Client.new(ENV.fetch('AWS_LAMBDA_RUNTIME_API'))
      $stdout.sync = $stderr.sync = true
      $LOAD_PATH.unshift(ENV.fetch('LAMBDA_TASK_ROOT', '/var/task'), '/opt/ruby/lib')
    end

    def run
      @handler = load_handler
      freeze_and_restore if ENV['AWS_LAMBDA_INITIALIZATION_TYPE'] == 'snap-start'
      loop { handle(next_event) }
    end

    private

    def next_event
      answer = @client.get("#{API}invocation/next")
      ThawSnapstart.make_unique if @parked
      @parked = false
      abort "invocation/next: status #{answer.status}: #{answer.body}" unless answer.status == 200
      answer
    end

    def handle(event)
      id = event.fields['lambda-runtime-aws-request-id']
      begin
        body, content_type = answer(@handler, event)
        path = "invocation/#{id}/response"
      rescue SystemExit, SignalException
        raise
      rescue Exception => e # rubocop:disable Lint/RescueException
        body, content_type = describe(e, 'Function'), 'application/json'
        path = "invocation/#{id}/error"
        log(body)
      end
      reply = @client.post(API + path, body, content_type)
      puts "The answer was refused with status #{reply.status}: #{reply.body}" unless reply.status == 202
    end

    # What the handler answers: the text, and its type.
    def answer(handler, event)
      ENV['_X_AMZN_TRACE_ID'] = event.fields['lambda-runtime-trace-id']
      result = handler.call(JSON.parse(event.body), LambdaContext.new(event.fields))
      return [result.read, 'application/unknown'] if result.is_a?(StringIO)

      [JSON.generate(result), 'application/json']
    end

    def describe(error, phase)
      JSON.generate(errorMessage: error.message.dup.force_encoding('UTF-8').scrub,
                    errorType: "#{phase}<#{error.class.name}>", stackTrace: error.backtrace || [])
    end

    def log(description) = puts("Error raised from handler method\n#{description}")

    def die(code, path, error, phase)
      body = describe(error, phase)
      log(body)
      @client.post(API + path, body)
      exit!(code)
    end

    def load_handler
      Handler.new(ENV.fetch('_HANDLER', '')).load
    rescue StandardError, ScriptError => e
      die(EXIT_INIT, 'init/error', e, 'Init')
    end

    # The snapshot is taken here, or at the first invocation/next when no hook is to run after a restore: that saves every
    # clone a round trip.
    def freeze_and_restore
      prime
      prepare_snapshot
      return @parked = true unless ThawSnapstart.after_restore?

      answer = @client.get("#{API}restore/next")
      abort "restore/next: status #{answer.status}: #{answer.body}" unless answer.status == 200
      ThawSnapstart.make_unique
      run_hooks(EXIT_AFTER_RESTORE, 'restore/error') { ThawSnapstart.run_after_restore }
    end

    # Handles the sample events that the function is to be primed with, if any, as it will handle all others.
    def prime
      while (event = @client.get("#{API}prime/next")).status == 200
        handle(event)
      end
    end

    def prepare_snapshot
      run_hooks(EXIT_BEFORE_SNAPSHOT, 'init/error') { ThawSnapstart.run_before_snapshot }
      warm_up
      GC.start
      GC.compact if GC.respond_to?(:compact)
    end

    def run_hooks(code, path)
      yield
    rescue StandardError, ScriptError => e
      die(code, path, e, 'Runtime')
    end

    def warm_up
      fields = { 'lambda-runtime-deadline-ms' => '0', 'lambda-runtime-trace-id' => 'Root=1-0' }
      echo = ->(event, _context) { event }
      WARM_UP_ROUNDS.times do
        @client.get('/2018-06-01/ping')
        answer(echo, Answer.new(200, fields, '{"key": ["value", 1, 1.5, true, null]}'))
      end
      ENV.delete('_X_AMZN_TRACE_ID')
    end
  end
end

ThawRuntime::Bootstrap.new.run
