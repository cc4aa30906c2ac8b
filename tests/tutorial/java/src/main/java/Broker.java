import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;

/** Where the broker is, and as whom the programs log in: from the environment, as `cargo xtask tutorial` sets it. */
final class Broker {
    private Broker() {}

    static Connection connect() throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setHost(variable("TUTORIAL_HOST", "localhost"));
        factory.setPort(Integer.parseInt(variable("TUTORIAL_PORT", "5672")));
        factory.setVirtualHost(variable("TUTORIAL_VHOST", "/lagou"));
        factory.setUsername(variable("TUTORIAL_USER", "laosun"));
        factory.setPassword(variable("TUTORIAL_PASSWORD", "123456"));
        return factory.newConnection();
    }

    private static String variable(String name, String otherwise) {
        String value = System.getenv(name);
        return value == null ? otherwise : value;
    }
}
