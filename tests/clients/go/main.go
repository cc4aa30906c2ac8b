// The scenarios of scenarios.txt with amqp091-go, the official Go client.
//
// usage: scenarios scenarios URL | recover URL | publish OPTION… | consume OPTION…
// Prints `ok NAME` after each scenario and panics at the first wrong observation.
package main

import (
	"fmt"
	"os"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

type scenario struct {
	name string
	run  func(*amqp.Connection, *amqp.Channel)
}

func main() {
	switch os.Args[1] {
	case "publish", "consume":
		carry(os.Args[1], os.Args[2:])
		return
	}
	url = os.Args[2]
	if os.Args[1] == "recover" {
		recovery()
		return
	}
	for _, it := range []scenario{
		{"connect", connect}, {"exchanges", exchanges}, {"properties", properties}, {"confirms", confirms},
		{"returns", returns}, {"transactions", transactions}, {"prefetch", prefetch},
		{"acknowledgements", acknowledgements}, {"get", get}, {"cancel", cancel}, {"exceptions", exceptions},
		{"dead_letters", deadLetters}, {"priorities", priorities}, {"rpc", rpc}, {"heartbeats", heartbeats},
	} {
		connection := dial(30 * time.Second)
		it.run(connection, must(connection.Channel()))
		check(connection.Close())
		fmt.Println("ok", it.name)
	}
}

// recovery publishes a message, says `ready`, loses its broker, and finds the message in the next one.
func recovery() {
	queue := name("recover")
	persistent := func(body string) amqp.Publishing {
		return amqp.Publishing{Body: []byte(body), DeliveryMode: amqp.Persistent}
	}
	confirmed := func(connection *amqp.Connection, body string) *amqp.Channel {
		channel := must(connection.Channel())
		check(channel.Confirm(false))
		must(channel.QueueDeclare(queue, true, false, false, false, nil))
		confirm := must(channel.PublishWithDeferredConfirm("", queue, false, false, persistent(body)))
		expect(confirm.Wait(), true)
		return channel
	}
	connection := dial(30 * time.Second)
	lost := connection.NotifyClose(make(chan *amqp.Error, 1))
	confirmed(connection, "before")
	fmt.Println("ready")
	select {
	case <-lost:
	case <-time.After(time.Minute):
		fail("the broker did not die")
	}
	end := time.Now().Add(time.Minute)
	for {
		again, err := amqp.Dial(url)
		if err == nil {
			connection = again
			break
		}
		if time.Now().After(end) {
			fail("the broker does not come back: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	channel := confirmed(connection, "after")
	expect(string(fetch(channel, queue, true).Body), "before")
	expect(string(fetch(channel, queue, true).Body), "after")
	must(channel.QueueDelete(queue, false, false, false))
	check(connection.Close())
	fmt.Println("ok recover")
}
