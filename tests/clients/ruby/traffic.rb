# Numbered messages with bunny, through whatever happens: the publisher makes a new connection itself, the consumer has
# bunny's automatic recovery, and a new connection where that has given up.
#
# usage: traffic.rb publish|consume --url URL --queue QUEUE --out RECORD [--name NAME] [--rate PER_SECOND]
# The record is that of publish.py and consume.py.
require "bunny"

PATIENCE = 5
# What a connection that breaks, refuses or falls silent raises.
BROKEN = [Bunny::Exception, Timeout::Error, SystemCallError, IOError, AMQ::Protocol::EmptyResponseError].freeze

# Writes one line for each event.
class Record
  def initialize(path)
    @file = File.open(path, "a")
    @file.sync = true
  end

  def note(event, ident = "-", more = "")
    time = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    @file.write(format("%s %s %.6f %s\n", event, ident, time, more))
  end
end

# Hears that a connection broke, in the place of a thread that would be interrupted anywhere: only who notices it himself
# is.
class Ear
  attr_reader :error

  def initialize
    @owner = Thread.current
  end

  def raise(error, *)
    @error = error
    Kernel.raise(error) if Thread.current == @owner
  end
end

# Sees when the automatic recovery has given up: an error that it does not expect (a stream that is closed while it logs
# in) ends its thread, and nobody is told.
class Recovery
  def initialize
    restart
  end

  # Another connection is watched.
  def restart
    @started = false
    @since = nil
  end

  def settings
    { recovery_attempt_started: -> { @started = true }, recovery_completed: -> { @started = false } }
  end

  def given_up?(connection)
    at_work = connection.recovering_from_network_failure? || (connection.open? && !@started)
    now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    @since = at_work ? nil : @since || now
    # A channel that is on its way back is neither.
    !@since.nil? && now - @since > PATIENCE
  end
end

# One publisher or consumer.
class Traffic
  def initialize(options)
    @options = options
    @record = Record.new(options.fetch("out"))
    @number = 0
    @stop = false
    %w[TERM INT].each { |name| Signal.trap(name) { @stop = true } }
  end

  def publish
    serve(automatically_recover: false) { |connection, ear| publish_over(connection, ear) }
  end

  def consume
    recovery = Recovery.new
    settings = { automatically_recover: true, network_recovery_interval: 0.2, **recovery.settings }
    serve(**settings) { |connection, ear| consume_over(connection, ear, recovery) }
  end

  private

  # One connection after the other, each until it breaks.
  def serve(**settings)
    until @stop
      ear = Ear.new
      connection = connect({ session_error_handler: ear, **settings })
      begin
        yield connection, ear
      rescue *BROKEN => error
        lost(error)
      end
      leave(connection)
    end
  end

  def connect(settings)
    until @stop
      begin
        connection = Bunny.new(
          @options.fetch("url"),
          heartbeat: 2, connection_timeout: PATIENCE, read_timeout: PATIENCE, write_timeout: PATIENCE,
          continuation_timeout: PATIENCE * 1000, log_level: Logger::FATAL, **settings
        )
        return connection.start
      rescue *BROKEN => error
        lost(error)
      end
    end
  end

  def publish_over(connection, ear)
    return if connection.nil?

    channel = connection.create_channel
    channel.confirm_select
    name = @options.fetch("queue")
    channel.queue(name, durable: true)
    returned = false
    exchange = channel.default_exchange
    exchange.on_return { returned = true }
    @record.note("connected")
    until @stop
      @number += 1
      ident = "#{@options.fetch('name')}-#{@number}"
      @record.note("try", ident)
      returned = false
      exchange.publish(ident, routing_key: name, persistent: true, mandatory: true, message_id: ident)
      wait(channel, ear)
      taken = channel.wait_for_confirms
      @record.note(taken && !returned ? "confirm" : "return", ident)
      sleep 1.0 / @options.fetch("rate", "100").to_f
    end
  end

  def consume_over(connection, ear, recovery)
    return if connection.nil?

    recovery.restart
    channel = connection.create_channel
    channel.prefetch(50)
    queue = channel.queue(@options.fetch("queue"), durable: true)
    queue.subscribe(manual_ack: true) do |info, _, body|
      @record.note("got", body, info.redelivered? ? 1 : 0)
      begin
        channel.ack(info.delivery_tag)
      rescue *BROKEN => error
        lost(error)
      end
    end
    sleep 0.05 until @stop || ear.error || recovery.given_up?(connection)
    @record.note("lost", "-", "for good") unless @stop
  end

  # bunny's own wait does not hear that the connection broke.
  def wait(channel, ear)
    due = Process.clock_gettime(Process::CLOCK_MONOTONIC) + PATIENCE
    until channel.unconfirmed_set.empty?
      raise ear.error if ear.error
      raise Timeout::Error if Process.clock_gettime(Process::CLOCK_MONOTONIC) > due

      sleep 0.002
    end
  end

  def leave(connection)
    connection&.close(false) if connection&.open?
  rescue *BROKEN
    nil # it may break while it is closed
  end

  def lost(error)
    @record.note("lost", "-", error.class)
    sleep 0.05
  end
end

role, *words = ARGV
Traffic.new(words.each_slice(2).to_h { |key, value| [key.delete_prefix("--"), value] }).public_send(role)
