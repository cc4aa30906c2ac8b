import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** What a consumer has received, for a program that says so in its own order. */
final class Inbox {
    private static final long PATIENCE_SECONDS = 30;
    private final BlockingQueue<String> received = new LinkedBlockingQueue<>();

    void put(String text) {
        received.add(text);
    }

    /** The next one; fails when nothing comes. */
    String next() throws InterruptedException {
        String text = received.poll(PATIENCE_SECONDS, TimeUnit.SECONDS);
        if (text == null) {
            throw new IllegalStateException("nothing was received for " + PATIENCE_SECONDS + " s");
        }
        return text;
    }

    List<String> next(int count) throws InterruptedException {
        List<String> all = new ArrayList<>();
        for (int index = 0; index < count; index++) {
            all.add(next());
        }
        return all;
    }

    /** Whether nothing more has come. */
    boolean isEmpty() {
        return received.isEmpty();
    }
}
