import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import org.springframework.amqp.core.Message;
import org.springframework.amqp.core.MessageListener;

/** Reads messages as JSON. */
public final class Listener implements MessageListener {
    final BlockingQueue<String> received = new LinkedBlockingQueue<>();
    private final ObjectMapper mapper = new ObjectMapper();

    @Override
    public void onMessage(Message message) {
        try {
            JsonNode json = mapper.readTree(message.getBody());
            received.add(json.get("name").asText() + " " + json.get("email").asText());
        } catch (java.io.IOException wrong) {
            received.add("no JSON: " + wrong.getMessage());
        }
    }
}
