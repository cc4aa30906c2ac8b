// What the scenarios have in common: connecting, expecting, and waiting with a deadline.
package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"reflect"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const limit = 15 * time.Second

var (
	url string
	run = func() string {
		octets := make([]byte, 4)
		must(rand.Read(octets))
		return hex.EncodeToString(octets)
	}()
)

func fail(text string, values ...any) {
	panic(fmt.Sprintf(text, values...))
}

// must returns a value that comes without an error.
func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func expect(found, wanted any) {
	if !reflect.DeepEqual(found, wanted) {
		fail("expected %#v, found %#v", wanted, found)
	}
}

func name(what string) string {
	return "go-" + what + "-" + run
}

func dial(heartbeat time.Duration) *amqp.Connection {
	properties := amqp.NewConnectionProperties()
	properties.SetClientConnectionName("go-" + run)
	connection := must(amqp.DialConfig(url, amqp.Config{Heartbeat: heartbeat, Properties: properties}))
	blocked := connection.NotifyBlocked(make(chan amqp.Blocking, 1))
	go func() {
		for blocking := range blocked {
			fmt.Fprintln(os.Stderr, "blocked:", blocking.Reason)
			os.Exit(1)
		}
	}()
	return connection
}

// next receives from a channel of the library within the limit.
func next[T any](source <-chan T, what string) T {
	select {
	case value, open := <-source:
		if !open {
			fail("closed while waiting for %s", what)
		}
		return value
	case <-time.After(limit):
		fail("waited for %s", what)
	}
	panic("unreachable")
}

// closed waits until a channel of the library ends.
func closed[T any](source <-chan T, what string) {
	select {
	case value, open := <-source:
		if open {
			fail("%v instead of %s", value, what)
		}
	case <-time.After(limit):
		fail("waited for %s", what)
	}
}

func nothing(deliveries <-chan amqp.Delivery) {
	select {
	case delivery := <-deliveries:
		fail("unexpected delivery %q", delivery.Body)
	default:
	}
}

// queue declares an exclusive queue of this run.
func queue(channel *amqp.Channel, what string, arguments amqp.Table) string {
	return must(channel.QueueDeclare(name(what), false, false, true, false, arguments)).Name
}

func publish(channel *amqp.Channel, exchange, key string, message amqp.Publishing) {
	check(channel.Publish(exchange, key, false, false, message))
}

func send(channel *amqp.Channel, queue, body string) {
	publish(channel, "", queue, amqp.Publishing{Body: []byte(body)})
}

// fetch gets a message; dead lettering is asynchronous.
func fetch(channel *amqp.Channel, queue string, autoAck bool) amqp.Delivery {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if delivery, found, err := channel.Get(queue, autoAck); err != nil || found {
			return must(delivery, err)
		}
	}
	fail("no message in %s", queue)
	panic("unreachable")
}

func empty(channel *amqp.Channel, queue string) {
	delivery, found, err := channel.Get(queue, true)
	check(err)
	if found {
		fail("unexpected message %q in %s", delivery.Body, queue)
	}
}

func consume(channel *amqp.Channel, queue, tag string, autoAck bool) <-chan amqp.Delivery {
	return must(channel.Consume(queue, tag, autoAck, false, false, false, nil))
}
