import com.rabbitmq.client.Channel;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import org.springframework.amqp.core.Message;

/** Keeps what it gets; the program acknowledges. */
public final class LimitedListener
        implements org.springframework.amqp.rabbit.core.ChannelAwareMessageListener {
    /** A message and the channel it came through. */
    static final class Held {
        final Message message;
        final Channel channel;

        Held(Message message, Channel channel) {
            this.message = message;
            this.channel = channel;
        }
    }

    final BlockingQueue<Held> held = new LinkedBlockingQueue<>();

    @Override
    public void onMessage(Message message, Channel channel) {
        held.add(new Held(message, channel));
    }
}
