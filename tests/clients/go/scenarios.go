// The scenarios, in the order of scenarios.txt. The expectations are RabbitMQ's.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func connect(connection *amqp.Connection, _ *amqp.Channel) {
	expect(connection.Properties["product"], "RabbitMQ")
	able := connection.Properties["capabilities"].(amqp.Table)
	for _, it := range []string{"publisher_confirms", "basic.nack", "consumer_cancel_notify", "connection.blocked"} {
		expect(able[it], true)
	}
	other := must(amqp.DialConfig(url, amqp.Config{Heartbeat: 17 * time.Second, ChannelMax: 9, FrameSize: 8192}))
	expect(other.Config.Heartbeat, 17*time.Second)
	expect(int(other.Config.ChannelMax), 9)
	expect(other.Config.FrameSize, 8192)
	check(other.Close())
	_, err := amqp.DialConfig(url, amqp.Config{SASL: []amqp.Authentication{&amqp.PlainAuth{Username: "guest", Password: "wrong"}}})
	var refusal *amqp.Error
	if !errors.As(err, &refusal) {
		fail("a wrong password gave %v", err)
	}
	expect(refusal.Code, amqp.AccessRefused)
}

// route publishes with a key and expects the message in the wanted queues only.
func route(channel *amqp.Channel, queues []string, exchange, key string, headers amqp.Table, wanted ...string) {
	message := amqp.Publishing{Body: []byte(key), Headers: headers}
	confirm := must(channel.PublishWithDeferredConfirm(exchange, key, false, false, message))
	expect(confirm.Wait(), true)
	for _, it := range queues {
		delivery, found, err := channel.Get(name(it), true)
		check(err)
		expect(fmt.Sprint(key, it, found), fmt.Sprint(key, it, strings.Contains(strings.Join(wanted, " "), it)))
		if found {
			expect(string(delivery.Body), key)
		}
	}
}

func exchanges(_ *amqp.Connection, channel *amqp.Channel) {
	check(channel.Confirm(false))
	for _, kind := range []string{"direct", "fanout", "topic", "headers"} {
		check(channel.ExchangeDeclare(name(kind), kind, false, true, false, false, nil))
	}
	bind := func(it, key, exchange string, arguments amqp.Table) {
		queue(channel, it, nil)
		check(channel.QueueBind(name(it), key, name(exchange), false, arguments))
	}
	bind("error", "error", "direct", nil)
	bind("all", "error", "direct", nil)
	bind("all", "info", "direct", nil)
	two := []string{"error", "all"}
	route(channel, two, name("direct"), "error", nil, "error", "all")
	route(channel, two, name("direct"), "info", nil, "all")
	route(channel, two, name("direct"), "debug", nil)
	bind("error", "", "fanout", nil)
	bind("all", "ignored", "fanout", nil)
	route(channel, two, name("fanout"), "anything", nil, "error", "all")
	bind("q1", "*.orange.*", "topic", nil)
	bind("q2", "*.*.rabbit", "topic", nil)
	bind("q2", "lazy.#", "topic", nil)
	two = []string{"q1", "q2"}
	route(channel, two, name("topic"), "quick.orange.rabbit", nil, "q1", "q2")
	route(channel, two, name("topic"), "lazy.orange.elephant", nil, "q1", "q2")
	route(channel, two, name("topic"), "quick.orange.fox", nil, "q1")
	route(channel, two, name("topic"), "lazy.brown.fox", nil, "q2")
	route(channel, two, name("topic"), "lazy.pink.rabbit", nil, "q2")
	route(channel, two, name("topic"), "quick.brown.fox", nil)
	route(channel, two, name("topic"), "quick.orange.male.rabbit", nil)
	route(channel, two, name("topic"), "lazy.orange.male.rabbit", nil, "q2")
	bind("both", "", "headers", amqp.Table{"x-match": "all", "kind": "report", "size": int32(3)})
	bind("either", "", "headers", amqp.Table{"x-match": "any", "kind": "report", "size": int32(3)})
	two = []string{"both", "either"}
	route(channel, two, name("headers"), "1", amqp.Table{"kind": "report", "size": int32(3)}, "both", "either")
	route(channel, two, name("headers"), "2", amqp.Table{"kind": "report", "size": int64(4)}, "either")
	route(channel, two, name("headers"), "3", amqp.Table{"kind": "other"})
	route(channel, two, name("headers"), "4", nil)
}

func properties(_ *amqp.Connection, channel *amqp.Channel) {
	it := queue(channel, "properties", nil)
	when := time.Unix(1700000000, 0)
	headers := amqp.Table{
		"text": "wörter", "byte": byte(200), "short": int16(-2), "number": int32(42), "large": int64(1) << 40, "true": true,
		"nothing": nil, "decimal": amqp.Decimal{Scale: 2, Value: 1234}, "time": when, "float": float32(0.5),
		"double": 0.25, "table": amqp.Table{"inner": amqp.Table{"deep": int32(1)}},
		"array": []interface{}{int32(1), "two", amqp.Table{"three": int32(3)}}, "binary": []byte{0, 255},
	}
	sent := amqp.Publishing{
		Headers: headers, ContentType: "text/plain", ContentEncoding: "gzip", DeliveryMode: amqp.Persistent, Priority: 7,
		CorrelationId: "correlation", ReplyTo: "reply", Expiration: "60000", MessageId: "message", Timestamp: when,
		Type: "type", UserId: "guest", AppId: "app",
	}
	for _, body := range [][]byte{{}, []byte("small"), bytes.Repeat([]byte("0123456789abcdef"), 32768)} {
		sent.Body = body
		publish(channel, "", it, sent)
		got := fetch(channel, it, true)
		expect(bytes.Equal(got.Body, body), true)
		expect([]any{got.Exchange, got.RoutingKey, got.Redelivered}, []any{"", it, false})
		expect(got.Timestamp.Unix(), when.Unix())
		expect(got.Headers["time"].(time.Time).Unix(), when.Unix())
		got.Headers["time"] = when
		expect(got.Headers, headers)
		expect(
			[]any{got.ContentType, got.ContentEncoding, got.DeliveryMode, got.Priority, got.CorrelationId, got.ReplyTo},
			[]any{"text/plain", "gzip", uint8(amqp.Persistent), uint8(7), "correlation", "reply"})
		expect(
			[]any{got.Expiration, got.MessageId, got.Type, got.UserId, got.AppId},
			[]any{"60000", "message", "type", "guest", "app"})
	}
}

func confirms(_ *amqp.Connection, channel *amqp.Channel) {
	it := queue(channel, "confirms", amqp.Table{"x-max-length": int32(2), "x-overflow": "reject-publish"})
	check(channel.Confirm(false))
	outcomes := channel.NotifyPublish(make(chan amqp.Confirmation, 3))
	for _, body := range []string{"1", "2", "3"} {
		send(channel, it, body)
	}
	for number := uint64(1); number <= 3; number++ {
		expect(next(outcomes, "a confirm"), amqp.Confirmation{DeliveryTag: number, Ack: number < 3})
	}
	expect(string(fetch(channel, it, true).Body), "1")
	expect(string(fetch(channel, it, true).Body), "2")
	empty(channel, it)
}

func returns(_ *amqp.Connection, channel *amqp.Channel) {
	check(channel.Confirm(false))
	returned := channel.NotifyReturn(make(chan amqp.Return, 1))
	outcomes := channel.NotifyPublish(make(chan amqp.Confirmation, 1))
	check(channel.Publish("", name("nowhere"), true, false, amqp.Publishing{MessageId: "one", Body: []byte("back")}))
	got := next(returned, "basic.return")
	expect([]any{got.ReplyCode, got.ReplyText, got.RoutingKey}, []any{uint16(312), "NO_ROUTE", name("nowhere")})
	expect(got.MessageId+string(got.Body), "oneback")
	expect(next(outcomes, "its confirm").Ack, true)
}

func transactions(connection *amqp.Connection, channel *amqp.Channel) {
	it := queue(channel, "transactions", nil)
	check(channel.Tx())
	send(channel, it, "dropped")
	check(channel.TxRollback())
	send(channel, it, "kept")
	other := must(connection.Channel())
	empty(other, it)
	check(channel.TxCommit())
	delivery := fetch(channel, it, false)
	expect(string(delivery.Body), "kept")
	check(delivery.Ack(false))
	check(channel.TxRollback())
	check(delivery.Ack(false))
	check(channel.TxCommit())
	check(channel.Close())
	empty(other, it)
}

func prefetch(_ *amqp.Connection, channel *amqp.Channel) {
	it := queue(channel, "prefetch", nil)
	for number := 0; number < 5; number++ {
		send(channel, it, strconv.Itoa(number))
	}
	check(channel.Qos(2, 0, false))
	deliveries := consume(channel, it, "", false)
	first, second := next(deliveries, "the first"), next(deliveries, "the second")
	must(channel.QueueInspect(it))
	nothing(deliveries)
	check(first.Ack(false))
	third := next(deliveries, "the third")
	must(channel.QueueInspect(it))
	nothing(deliveries)
	check(third.Ack(true))
	expect(string(first.Body)+string(second.Body)+string(third.Body), "012")
	expect(string(next(deliveries, "the fourth").Body), "3")
	expect(string(next(deliveries, "the fifth").Body), "4")
}

func acknowledgements(connection *amqp.Connection, channel *amqp.Channel) {
	it := queue(channel, "acknowledgements", nil)
	deliveries := consume(channel, it, "", false)
	for _, body := range []string{"ack", "nack", "reject", "requeue"} {
		send(channel, it, body)
		delivery := next(deliveries, body)
		expect([]any{string(delivery.Body), delivery.Redelivered}, []any{body, false})
		switch body {
		case "ack":
			check(delivery.Ack(false))
		case "nack":
			check(delivery.Nack(false, false))
		case "reject":
			check(delivery.Reject(false))
		default:
			check(delivery.Nack(false, true))
		}
	}
	again := next(deliveries, "the message again")
	expect([]any{string(again.Body), again.Redelivered}, []any{"requeue", true})
	check(channel.Close())
	other := must(connection.Channel())
	back := fetch(other, it, false)
	expect([]any{string(back.Body), back.Redelivered}, []any{"requeue", true})
	check(back.Ack(false))
	automatic := consume(other, it, "", true)
	send(other, it, "automatic")
	expect(string(next(automatic, "a message").Body), "automatic")
	check(other.Close())
	empty(must(connection.Channel()), it)
}

func get(_ *amqp.Connection, channel *amqp.Channel) {
	it := queue(channel, "get", nil)
	empty(channel, it)
	send(channel, it, "1")
	send(channel, it, "2")
	first := fetch(channel, it, false)
	expect([]any{string(first.Body), first.MessageCount, first.Redelivered}, []any{"1", uint32(1), false})
	check(first.Reject(true))
	again := fetch(channel, it, true)
	expect([]any{string(again.Body), again.MessageCount, again.Redelivered}, []any{"1", uint32(1), true})
	expect(must(channel.QueuePurge(it, false)), 1)
}

func cancel(connection *amqp.Connection, channel *amqp.Channel) {
	it := queue(channel, "cancel", nil)
	deliveries := consume(channel, it, "first", false)
	expect(must(channel.QueueInspect(it)).Consumers, 1)
	check(channel.Cancel("first", false))
	closed(deliveries, "the end of the consumer")
	expect(must(channel.QueueInspect(it)).Consumers, 0)
	told := channel.NotifyCancel(make(chan string, 1))
	consume(channel, it, "a-tag-of-mine", false)
	must(must(connection.Channel()).QueueDelete(it, false, false, false))
	expect(next(told, "the notice of cancellation"), "a-tag-of-mine")
}

func refused(connection *amqp.Connection, code int, text string, action func(*amqp.Channel) error) {
	channel := must(connection.Channel())
	ended := channel.NotifyClose(make(chan *amqp.Error, 1))
	err := action(channel)
	var refusal *amqp.Error
	if !errors.As(err, &refusal) {
		fail("%d expected, not %v", code, err)
	}
	expect([]any{refusal.Code, refusal.Reason, refusal.Server, refusal.Recover}, []any{code, text, true, true})
	expect(next(ended, "the end of the channel").Code, code)
	expect(channel.IsClosed(), true)
}

func exceptions(connection *amqp.Connection, channel *amqp.Channel) {
	refused(connection, 404, "NOT_FOUND - no queue '"+name("missing")+"' in vhost '/'", func(it *amqp.Channel) error {
		_, err := it.QueueDeclarePassive(name("missing"), false, false, false, false, nil)
		return err
	})
	refused(connection, 404, "NOT_FOUND - no exchange '"+name("missing")+"' in vhost '/'", func(it *amqp.Channel) error {
		return it.ExchangeDeclarePassive(name("missing"), "direct", false, false, false, false, nil)
	})
	must(channel.QueueDeclare(name("shared"), false, false, false, false, nil))
	refused(connection, 406, "PRECONDITION_FAILED - inequivalent arg 'durable' for queue '"+name("shared")+
		"' in vhost '/': received 'true' but current is 'false'", func(it *amqp.Channel) error {
		_, err := it.QueueDeclare(name("shared"), true, false, false, false, nil)
		return err
	})
	must(channel.QueueDelete(name("shared"), false, false, false))
	mine := queue(channel, "mine", nil)
	other := dial(30 * time.Second)
	refused(other, 405, "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '"+mine+"' in vhost '/'. It "+
		"could be originally declared on another connection or the exclusive property value does not match that of the "+
		"original declaration.", func(it *amqp.Channel) error {
		_, err := it.QueueDeclarePassive(mine, false, false, false, false, nil)
		return err
	})
	temporary := must(must(other.Channel()).QueueDeclare("", false, false, true, false, nil))
	expect(strings.HasPrefix(temporary.Name, "amq.gen-"), true)
	check(other.Close())
	expect(must(must(connection.Channel()).QueueInspect(mine)).Messages, 0)
}

func deadLetters(_ *amqp.Connection, channel *amqp.Channel) {
	dead := queue(channel, "dead", nil)
	check(channel.ExchangeDeclare(name("dlx"), "fanout", false, true, false, false, nil))
	check(channel.QueueBind(dead, "", name("dlx"), false, nil))
	full := queue(channel, "full", amqp.Table{"x-dead-letter-exchange": name("dlx"), "x-max-length": int32(1)})
	aging := queue(channel, "aging", amqp.Table{"x-dead-letter-exchange": name("dlx"), "x-message-ttl": int32(30)})
	for _, it := range [][3]string{{"old", "maxlen", full}, {"young", "expired", aging}} {
		source := it[2]
		send(channel, source, it[0])
		if source == full {
			send(channel, source, "new")
		}
		got := fetch(channel, dead, true)
		expect([]any{string(got.Body), got.Exchange, got.RoutingKey}, []any{it[0], name("dlx"), source})
		deaths := got.Headers["x-death"].([]interface{})
		expect(len(deaths), 1)
		death := deaths[0].(amqp.Table)
		if _, isTime := death["time"].(time.Time); !isTime {
			fail("no time in %v", death)
		}
		delete(death, "time")
		expect(death, amqp.Table{
			"count": int64(1), "reason": it[1], "queue": source, "exchange": "", "routing-keys": []interface{}{source},
		})
		expect(got.Headers["x-first-death-reason"], it[1])
		expect(got.Headers["x-first-death-queue"], source)
		expect(got.Headers["x-first-death-exchange"], "")
	}
	rejecting := queue(channel, "rejecting", amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
	for _, it := range [][2]string{{"60000", "rejected"}, {"20", "expired"}} {
		publish(channel, "", rejecting, amqp.Publishing{Expiration: it[0], Body: []byte("no")})
		if it[1] == "rejected" {
			check(fetch(channel, rejecting, false).Reject(false))
		}
		got := fetch(channel, dead, true)
		death := got.Headers["x-death"].([]interface{})[0].(amqp.Table)
		expect([]any{death["reason"], death["original-expiration"], got.Expiration}, []any{it[1], it[0], ""})
	}
}

func priorities(_ *amqp.Connection, channel *amqp.Channel) {
	it := queue(channel, "priorities", amqp.Table{"x-max-priority": int32(5)})
	for _, priority := range []uint8{0, 3, 1, 9, 3} {
		publish(channel, "", it, amqp.Publishing{Priority: priority, Body: []byte(strconv.Itoa(int(priority)))})
	}
	found := ""
	for number := 0; number < 5; number++ {
		found += string(fetch(channel, it, true).Body)
	}
	expect(found, "93310")
}

func rpc(connection *amqp.Connection, channel *amqp.Channel) {
	requests := queue(channel, "requests", nil)
	server := must(connection.Channel())
	calls := consume(server, requests, "", false)
	replies := consume(channel, "amq.rabbitmq.reply-to", "", true)
	for number := 0; number < 3; number++ {
		id := strconv.Itoa(number)
		publish(channel, "", requests, amqp.Publishing{ReplyTo: "amq.rabbitmq.reply-to", CorrelationId: id, Body: []byte("call" + id)})
		call := next(calls, "the call")
		expect(strings.HasPrefix(call.ReplyTo, "amq.rabbitmq.reply-to."), true)
		publish(server, "", call.ReplyTo, amqp.Publishing{CorrelationId: call.CorrelationId, Body: bytes.ToUpper(call.Body)})
		check(call.Ack(false))
		reply := next(replies, "the reply")
		expect([]string{string(reply.Body), reply.CorrelationId}, []string{"CALL" + id, id})
	}
	refused(connection, 406, "PRECONDITION_FAILED - reply consumer cannot acknowledge", func(it *amqp.Channel) error {
		_, err := it.Consume("amq.rabbitmq.reply-to", "", false, false, false, false, nil)
		return err
	})
}

// heartbeats keeps a connection quiet for longer than the two heartbeats after which it would be dropped.
func heartbeats(_ *amqp.Connection, _ *amqp.Channel) {
	quiet := dial(time.Second)
	lost := quiet.NotifyClose(make(chan *amqp.Error, 1))
	select {
	case err := <-lost:
		fail("a connection with heartbeats was dropped: %v", err)
	case <-time.After(2500 * time.Millisecond):
	}
	queue(must(quiet.Channel()), "quiet", nil)
	check(quiet.Close())
}
