// Numbered messages through whatever happens, with a new connection whenever the old one is gone.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const patience = 5 * time.Second

// traffic has what a publisher or a consumer was told, and where it writes its record.
type traffic struct {
	url, queue, name string
	pause            time.Duration
	record           *os.File
	stop             chan os.Signal
	number           int
	start            time.Time
	uptime           float64
}

// carry publishes or consumes until it is told to stop. The record is that of publish.py and consume.py.
func carry(role string, arguments []string) {
	it := traffic{stop: make(chan os.Signal, 1), start: time.Now()}
	flags := flag.NewFlagSet(role, flag.ExitOnError)
	flags.StringVar(&it.url, "url", "", "amqp://USER:PASSWORD@HOST:PORT/VHOST")
	flags.StringVar(&it.queue, "queue", "", "the queue")
	flags.StringVar(&it.name, "name", "", "begins every id")
	out := flags.String("out", "", "the record")
	rate := flags.Float64("rate", 100, "per second")
	check(flags.Parse(arguments))
	it.pause = time.Duration(float64(time.Second) / *rate)
	it.record = must(os.OpenFile(*out, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644))
	must(fmt.Sscan(string(must(os.ReadFile("/proc/uptime"))), &it.uptime))
	signal.Notify(it.stop, syscall.SIGTERM, syscall.SIGINT)
	act := map[string]func(*amqp.Connection, *amqp.Channel) error{"publish": it.publish, "consume": it.consume}[role]
	for {
		err := it.once(act)
		if err == nil {
			return
		}
		it.note("lost", "-", strings.ReplaceAll(err.Error(), "\n", " "))
		select {
		case <-it.stop:
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (it *traffic) note(event, ident string, more any) {
	now := it.uptime + time.Since(it.start).Seconds()
	must(fmt.Fprintf(it.record, "%s %s %.6f %v\n", event, ident, now, more))
}

// once acts over one connection; without an error it was told to stop.
func (it *traffic) once(act func(*amqp.Connection, *amqp.Channel) error) error {
	settings := amqp.Config{Heartbeat: 2 * time.Second, Dial: amqp.DefaultDial(patience)}
	connection, err := amqp.DialConfig(it.url, settings)
	if err != nil {
		return err
	}
	defer connection.CloseDeadline(time.Now().Add(time.Second))
	channel, err := connection.Channel()
	if err != nil {
		return err
	}
	if _, err := channel.QueueDeclare(it.queue, true, false, false, false, nil); err != nil {
		return err
	}
	return act(connection, channel)
}

func (it *traffic) publish(connection *amqp.Connection, channel *amqp.Channel) error {
	if err := channel.Confirm(false); err != nil {
		return err
	}
	closed := channel.NotifyClose(make(chan *amqp.Error, 1))
	returns := channel.NotifyReturn(make(chan amqp.Return, 1))
	it.note("connected", "-", "")
	for {
		next := time.After(it.pause)
		it.number++
		ident := fmt.Sprintf("%s-%d", it.name, it.number)
		it.note("try", ident, "")
		message := amqp.Publishing{Body: []byte(ident), MessageId: ident, DeliveryMode: amqp.Persistent}
		confirm, err := channel.PublishWithDeferredConfirm("", it.queue, true, false, message)
		if err != nil {
			return err
		}
		select {
		case <-confirm.Done():
		case err := <-closed:
			return fmt.Errorf("closed: %v", err)
		case <-time.After(patience):
			return errors.New("no answer")
		}
		select {
		case <-returns:
			it.note("return", ident, "")
		default:
			// What waits on a channel that ends is settled too, as not taken.
			event := map[bool]string{true: "confirm", false: "return"}[confirm.Acked()]
			it.note(event, ident, "")
		}
		select {
		case <-it.stop:
			return nil
		case <-next:
		}
	}
}

func (it *traffic) consume(connection *amqp.Connection, channel *amqp.Channel) error {
	if err := channel.Qos(50, 0, false); err != nil {
		return err
	}
	deliveries, err := channel.Consume(it.queue, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	for {
		select {
		case <-it.stop:
			return nil
		case delivery, open := <-deliveries:
			if !open {
				return errors.New("the deliveries ended")
			}
			again := map[bool]int{true: 1, false: 0}[delivery.Redelivered]
			it.note("got", string(delivery.Body), again)
			if err := delivery.Ack(false); err != nil {
				return err
			}
		}
	}
}
