import com.rabbitmq.client.Connection;

/** A connection to the virtual host, and what the other side says it is. */
public final class ConnectionTest {
    private ConnectionTest() {}

    public static void main(String[] arguments) throws Exception {
        try (Connection connection = Broker.connect()) {
            System.out.println("product " + connection.getServerProperties().get("product"));
            System.out.println("open " + connection.isOpen());
            connection.createChannel().close();
        }
    }
}
