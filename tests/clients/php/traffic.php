<?php
// Numbered messages with php-amqplib, through whatever happens: it makes a new connection itself.
//
// usage: traffic.php publish|consume --url URL --queue QUEUE --out RECORD [--name NAME] [--rate PER_SECOND]
// The record is that of publish.py and consume.py.

require_once 'PhpAmqpLib/autoload.php';

use PhpAmqpLib\Connection\AMQPStreamConnection;
use PhpAmqpLib\Exception\AMQPTimeoutException;
use PhpAmqpLib\Message\AMQPMessage;

const PATIENCE = 5;

$role = $argv[1];
$options = ['rate' => '100', 'name' => ''];
for ($at = 2; $at + 1 < $argc; $at += 2) {
    $options[substr($argv[$at], 2)] = $argv[$at + 1];
}
$record = fopen($options['out'], 'a');
$stop = false;
$number = 0;
pcntl_async_signals(true);
foreach ([SIGTERM, SIGINT] as $signal) {
    pcntl_signal($signal, function () use (&$stop) { $stop = true; }, false);
}

function note(string $event, string $ident = '-', string $more = ''): void
{
    global $record;
    fwrite($record, sprintf("%s %s %.6F %s\n", $event, $ident, hrtime(true) / 1e9, $more));
}

function connect(): AMQPStreamConnection
{
    global $options;
    $url = parse_url($options['url']);
    $vhost = rawurldecode(substr($url['path'] ?? '/%2F', 1));
    return new AMQPStreamConnection(
        $url['host'], $url['port'] ?? 5672, $url['user'], $url['pass'], $vhost, false, 'PLAIN', null, 'en_US',
        PATIENCE, PATIENCE, null, false, 2, PATIENCE
    );
}

function publish(AMQPStreamConnection $connection): void
{
    global $options, $stop, $number;
    $channel = $connection->channel();
    $channel->queue_declare($options['queue'], false, true, false, false);
    $channel->confirm_select();
    $answer = null;
    $channel->set_ack_handler(function () use (&$answer) { $answer ??= 'confirm'; });
    $channel->set_nack_handler(function () use (&$answer) { $answer = 'return'; });
    $channel->set_return_listener(function () use (&$answer) { $answer = 'return'; });
    note('connected');
    while (!$stop) {
        $number++;
        $ident = $options['name'] . '-' . $number;
        $persistent = ['delivery_mode' => AMQPMessage::DELIVERY_MODE_PERSISTENT, 'message_id' => $ident];
        $answer = null;
        note('try', $ident);
        $channel->basic_publish(new AMQPMessage($ident, $persistent), '', $options['queue'], true);
        $channel->wait_for_pending_acks_returns(PATIENCE);
        if ($answer === null) {
            throw new RuntimeException('no answer');
        }
        note($answer, $ident);
        usleep((int) (1e6 / (float) $options['rate']));
    }
}

function consume(AMQPStreamConnection $connection): void
{
    global $options, $stop;
    $channel = $connection->channel();
    $channel->queue_declare($options['queue'], false, true, false, false);
    $channel->basic_qos(0, 50, false);
    $channel->basic_consume($options['queue'], '', false, false, false, false, function (AMQPMessage $message) {
        note('got', $message->getBody(), $message->isRedelivered() ? '1' : '0');
        $message->ack();
    });
    while (!$stop && $channel->is_consuming()) {
        try {
            $channel->wait(null, false, 0.5);
        } catch (AMQPTimeoutException) {
            $connection->checkHeartBeat();
        }
    }
}

while (!$stop) {
    $connection = null;
    try {
        $connection = connect();
        $role($connection);
        $connection->close();
    } catch (Throwable $error) {
        note('lost', '-', get_class($error) . ' ' . strtr($error->getMessage(), "\n", ' '));
        try {
            // What falls silent is closed without waiting for an answer.
            $connection?->getIO()->close();
        } catch (Throwable) {
        }
        usleep(50000);
    }
}
