import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Java's transactional producers, driven line by line: {@code java -cp 'JARS/*' Transactions.java SERVERS}.
 *
 * <pre>
 * open ID CODEC TIMEOUT_MS
 * begin|flush|commit|abort ID
 * send ID TOPIC PARTITION KEY VALUE [NAME=VALUE ...]     base64, but for topic, partition and names
 * </pre>
 *
 * Each line is answered by {@code ok} once it is done, or by {@code error} and why. The end of the input ends the
 * process, and leaves open what was begun.
 */
public class Transactions {
    private static final Map<String, KafkaProducer<byte[], byte[]>> PRODUCERS = new HashMap<>();
    private static final List<Future<?>> SENT = new ArrayList<>();

    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            try {
                obey(args[0], line.split(" "));
                System.out.println("ok");
            } catch (Exception error) {
                System.out.println("error " + String.valueOf(error).replace('\n', ' '));
            }
            System.out.flush();
        }
        Runtime.getRuntime().halt(0);
    }

    private static void obey(String servers, String[] words) throws Exception {
        if (words[0].equals("open")) {
            PRODUCERS.put(words[1], open(servers, words[1], words[2], words[3]));
            return;
        }
        KafkaProducer<byte[], byte[]> producer = PRODUCERS.get(words[1]);
        switch (words[0]) {
            case "begin" -> producer.beginTransaction();
            case "send" -> SENT.add(producer.send(record(words)));
            case "flush" -> flush(producer);
            case "commit" -> producer.commitTransaction();
            case "abort" -> producer.abortTransaction();
            default -> throw new IllegalArgumentException(words[0]);
        }
    }

    private static KafkaProducer<byte[], byte[]> open(String servers, String id, String codec, String timeout) {
        Properties with = new Properties();
        with.put("bootstrap.servers", servers);
        with.put("transactional.id", id);
        with.put("compression.type", codec);
        with.put("transaction.timeout.ms", timeout);
        KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(with, new ByteArraySerializer(), new ByteArraySerializer());
        producer.initTransactions();
        return producer;
    }

    private static void flush(KafkaProducer<byte[], byte[]> producer) throws Exception {
        producer.flush();
        for (Future<?> sent : SENT) {
            sent.get();
        }
        SENT.clear();
    }

    private static ProducerRecord<byte[], byte[]> record(String[] words) {
        Base64.Decoder base64 = Base64.getDecoder();
        ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(
                words[2], Integer.parseInt(words[3]), base64.decode(words[4]), base64.decode(words[5]));
        for (int i = 6; i < words.length; i++) {
            int at = words[i].indexOf('=');
            record.headers().add(words[i].substring(0, at), base64.decode(words[i].substring(at + 1)));
        }
        return record;
    }
}
