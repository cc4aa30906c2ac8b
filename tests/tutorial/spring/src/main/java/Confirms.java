import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.springframework.amqp.rabbit.core.RabbitTemplate;
import org.springframework.amqp.rabbit.support.CorrelationData;

/** Hears from the broker whether it has taken a message. */
public final class Confirms implements RabbitTemplate.ConfirmCallback {
    private final BlockingQueue<String> told = new LinkedBlockingQueue<>();

    @Override
    public void confirm(CorrelationData correlation, boolean taken, String cause) {
        String reason = cause == null ? "" : cause.contains("404") ? " because of 404" : " because of " + cause;
        told.add(correlation.getId() + " " + taken + reason);
    }

    String next() throws InterruptedException {
        String line = told.poll(30, TimeUnit.SECONDS);
        if (line == null) {
            throw new IllegalStateException("nothing was confirmed for 30 s");
        }
        return line;
    }
}
