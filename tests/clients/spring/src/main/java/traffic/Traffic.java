package traffic;

import java.io.IOException;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.springframework.amqp.AmqpException;
import org.springframework.amqp.core.Message;
import org.springframework.amqp.core.MessageDeliveryMode;
import org.springframework.amqp.core.MessageProperties;
import org.springframework.amqp.core.Queue;
import org.springframework.amqp.rabbit.connection.ConnectionFactory;
import org.springframework.amqp.rabbit.connection.CorrelationData;
import org.springframework.amqp.rabbit.core.RabbitTemplate;
import org.springframework.amqp.rabbit.listener.SimpleMessageListenerContainer;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.context.annotation.Bean;

/**
 * Numbered messages with Spring Boot, through whatever happens: template with correlated confirms, listener container
 * that comes back by itself. The record is that of publish.py and consume.py.
 *
 * <p>usage: Traffic publish|consume --url URL --queue QUEUE --out RECORD [--name NAME] [--rate PER_SECOND]
 */
@SpringBootApplication
public class Traffic {
    private static final int PATIENCE_SECONDS = 5;
    private static final Map<String, String> OPTIONS = new HashMap<>();
    private static final CountDownLatch STOP = new CountDownLatch(1);
    private static final CountDownLatch ENDED = new CountDownLatch(1);
    private static String role;
    private static OutputStream record;

    public static void main(String[] arguments) throws Exception {
        role = arguments[0];
        for (int at = 1; at + 1 < arguments.length; at += 2) {
            OPTIONS.put(arguments[at].substring(2), arguments[at + 1]);
        }
        record = Files.newOutputStream(
                Path.of(OPTIONS.get("out")), StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        Runtime.getRuntime().addShutdownHook(new Thread(Traffic::leave));
        SpringApplication application = new SpringApplication(Traffic.class);
        application.setRegisterShutdownHook(false);
        URI url = URI.create(OPTIONS.get("url"));
        String[] user = url.getUserInfo().split(":", 2);
        application.setDefaultProperties(Map.ofEntries(
                Map.entry("spring.rabbitmq.host", url.getHost()),
                Map.entry("spring.rabbitmq.port", String.valueOf(url.getPort())),
                Map.entry("spring.rabbitmq.username", user[0]),
                Map.entry("spring.rabbitmq.password", user[1]),
                Map.entry("spring.rabbitmq.virtual-host", url.getPath().substring(1)),
                Map.entry("spring.rabbitmq.requested-heartbeat", "2s"),
                Map.entry("spring.rabbitmq.connection-timeout", PATIENCE_SECONDS + "s"),
                Map.entry("spring.rabbitmq.publisher-confirm-type", "correlated"),
                Map.entry("spring.rabbitmq.publisher-returns", "true"),
                Map.entry("spring.rabbitmq.template.mandatory", "true"),
                Map.entry("spring.main.banner-mode", "off"),
                Map.entry("logging.level.root", "off")));
        RabbitTemplate template = application.run().getBean(RabbitTemplate.class);
        try {
            if (role.equals("publish")) {
                publish(template);
            } else {
                STOP.await();
            }
        } finally {
            ENDED.countDown();
        }
    }

    /** Being asked to stop is no failure. */
    private static void leave() {
        STOP.countDown();
        try {
            ENDED.await(2L * PATIENCE_SECONDS, TimeUnit.SECONDS);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
        }
        Runtime.getRuntime().halt(0);
    }

    private static synchronized void note(String event, String ident, Object more) {
        String line = String.format(Locale.ROOT, "%s %s %.6f %s%n", event, ident, System.nanoTime() / 1e9, more);
        try {
            record.write(line.getBytes(StandardCharsets.US_ASCII));
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    @Bean
    Queue queue() {
        return new Queue(OPTIONS.get("queue"));
    }

    @Bean
    SimpleMessageListenerContainer listener(ConnectionFactory factory) {
        SimpleMessageListenerContainer container = new SimpleMessageListenerContainer(factory);
        container.setAutoStartup(role.equals("consume"));
        container.setQueueNames(OPTIONS.get("queue"));
        container.setPrefetchCount(50);
        container.setRecoveryInterval(200);
        container.setMissingQueuesFatal(false);
        container.setShutdownTimeout(1_000);
        container.setMessageListener(message -> note("got", new String(message.getBody(), StandardCharsets.UTF_8),
                Boolean.TRUE.equals(message.getMessageProperties().getRedelivered()) ? 1 : 0));
        return container;
    }

    private static void publish(RabbitTemplate template) throws InterruptedException {
        long pause = (long) (1000 / Double.parseDouble(OPTIONS.getOrDefault("rate", "100")));
        for (int number = 1; !STOP.await(pause, TimeUnit.MILLISECONDS); number++) {
            String ident = OPTIONS.get("name") + "-" + number;
            MessageProperties properties = new MessageProperties();
            properties.setDeliveryMode(MessageDeliveryMode.PERSISTENT);
            properties.setMessageId(ident);
            Message message = new Message(ident.getBytes(StandardCharsets.UTF_8), properties);
            CorrelationData correlation = new CorrelationData(ident);
            note("try", ident, "");
            try {
                template.send("", OPTIONS.get("queue"), message, correlation);
                CorrelationData.Confirm confirm =
                        correlation.getFuture().get(PATIENCE_SECONDS, TimeUnit.SECONDS);
                // What waits on a channel that ends is told as not taken.
                boolean taken = confirm.ack() && correlation.getReturned() == null;
                note(taken ? "confirm" : "return", ident, "");
            } catch (AmqpException | ExecutionException | TimeoutException error) {
                note("lost", "-", error.getClass().getSimpleName());
            }
        }
    }
}
