import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.math.RoundingMode;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.api.FixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyProcessorContext;
import org.apache.kafka.streams.processor.api.FixedKeyProcessorSupplier;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/**
 * The moving average of five in Kafka Streams: one thread, exactly once, state with a changelog.
 *
 * <p>Run by bench.streams with SERVERS INPUT OUTPUT GROUP STATE_FOLDER [NAME=VALUE ...]; the pairs are
 * configuration, and store=memory or store=rocksdb.
 */
public final class MovingAverage {
  private static final int WINDOW = 5;
  private static final String STORE = "windows";

  public static void main(String[] args) throws InterruptedException {
    Properties config = config(args);
    boolean rocksdb = "rocksdb".equals(config.remove("store"));
    StreamsBuilder builder = new StreamsBuilder();
    builder.stream(args[1], Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()))
        .processValues(new Supplier(rocksdb))
        .to(args[2], Produced.with(Serdes.ByteArray(), Serdes.ByteArray()));
    KafkaStreams streams = new KafkaStreams(builder.build(), config);
    CountDownLatch ended = new CountDownLatch(1);
    Runtime.getRuntime()
        .addShutdownHook(
            new Thread(
                () -> {
                  streams.close(Duration.ofSeconds(20));
                  ended.countDown();
                }));
    streams.start();
    ended.await();
  }

  private static Properties config(String[] args) {
    Properties config = new Properties();
    config.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
    config.put(StreamsConfig.APPLICATION_ID_CONFIG, args[3]);
    config.put(StreamsConfig.STATE_DIR_CONFIG, args[4]);
    config.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    config.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
    config.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1000);
    config.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 64L << 20);
    config.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
    config.put(StreamsConfig.producerPrefix("compression.type"), "snappy");
    for (int i = 5; i < args.length; i++) {
      String[] pair = args[i].split("=", 2);
      config.put(pair[0], pair[1]);
    }
    return config;
  }

  private record Supplier(boolean rocksdb) implements FixedKeyProcessorSupplier<byte[], byte[], byte[]> {
    @Override
    public FixedKeyProcessor<byte[], byte[], byte[]> get() {
      return new Average();
    }

    @Override
    public Set<StoreBuilder<?>> stores() {
      return Set.of(
          Stores.keyValueStoreBuilder(
                  rocksdb ? Stores.persistentKeyValueStore(STORE) : Stores.inMemoryKeyValueStore(STORE),
                  Serdes.ByteArray(),
                  Serdes.ByteArray())
              .withCachingEnabled());
    }
  }

  private static final class Average implements FixedKeyProcessor<byte[], byte[], byte[]> {
    private static final BigDecimal COUNT = BigDecimal.valueOf(WINDOW);
    private static final JsonFactory JSON = new JsonFactory();
    private final ByteArrayOutputStream out = new ByteArrayOutputStream(512);
    private FixedKeyProcessorContext<byte[], byte[]> context;
    private KeyValueStore<byte[], byte[]> store;

    @Override
    public void init(FixedKeyProcessorContext<byte[], byte[]> given) {
      context = given;
      store = given.getStateStore(STORE);
    }

    @Override
    public void process(FixedKeyRecord<byte[], byte[]> record) {
      PriceEvent event = PriceEvent.read(JSON, record.value());
      BigDecimal[] window = pushed(store.get(record.key()), event.price);
      store.put(record.key(), dumped(window));
      if (window.length < WINDOW) {
        return;
      }
      BigDecimal sum = BigDecimal.ZERO;
      for (BigDecimal price : window) {
        sum = sum.add(price);
      }
      BigDecimal value = sum.divide(COUNT, sum.scale() + 4, RoundingMode.HALF_EVEN);
      String id = text(record.headers(), "ce_id");
      context.forward(
          record
              .withValue(written(event, value, id))
              .withHeaders(headers(id + "~sma:5", text(record.headers(), "ce_source") + "/averages/1")));
    }

    private byte[] written(PriceEvent event, BigDecimal value, String id) {
      out.reset();
      try (JsonGenerator json = JSON.createGenerator(out)) {
        json.writeStartObject();
        json.writeStringField("symbol", event.symbol);
        json.writeStringField("kind", "sma");
        json.writeStringField("window", "5");
        json.writeFieldName("value");
        json.writeNumber(value.toPlainString());
        json.writeStringField("timestamp", event.timestamp);
        json.writeNumberField("count", WINDOW);
        json.writeStringField("raw_response_id", event.rawResponseId);
        json.writeStringField("event_id", id);
        json.writeEndObject();
      } catch (IOException impossible) {
        throw new UncheckedIOException(impossible);
      }
      return out.toByteArray();
    }

    private static String text(Headers headers, String name) {
      Header header = headers.lastHeader(name);
      return new String(header.value(), StandardCharsets.UTF_8);
    }

    private static Headers headers(String id, String source) {
      return new RecordHeaders()
          .add("ce_specversion", "1.0".getBytes(StandardCharsets.UTF_8))
          .add("ce_id", id.getBytes(StandardCharsets.UTF_8))
          .add("ce_type", "average.moved".getBytes(StandardCharsets.UTF_8))
          .add("ce_source", source.getBytes(StandardCharsets.UTF_8))
          .add("content-type", "application/json".getBytes(StandardCharsets.UTF_8));
    }

    /** Return the prices of the window with one more, the oldest gone from a full one. */
    private static BigDecimal[] pushed(byte[] dump, BigDecimal price) {
      if (dump == null) {
        return new BigDecimal[] {price};
      }
      ByteBuffer bytes = ByteBuffer.wrap(dump);
      int count = bytes.get();
      int skipped = count == WINDOW ? 1 : 0;
      BigDecimal[] window = new BigDecimal[count - skipped + 1];
      for (int i = 0; i < count; i++) {
        int scale = bytes.getInt();
        byte[] unscaled = new byte[bytes.get()];
        bytes.get(unscaled);
        if (i >= skipped) {
          window[i - skipped] = new BigDecimal(new BigInteger(unscaled), scale);
        }
      }
      window[window.length - 1] = price;
      return window;
    }

    private static byte[] dumped(BigDecimal[] window) {
      ByteBuffer bytes = ByteBuffer.allocate(512);
      bytes.put((byte) window.length);
      for (BigDecimal price : window) {
        byte[] unscaled = price.unscaledValue().toByteArray();
        bytes.putInt(price.scale()).put((byte) unscaled.length).put(unscaled);
      }
      byte[] dump = new byte[bytes.position()];
      bytes.flip().get(dump);
      return dump;
    }
  }

  private static final class PriceEvent {
    private String symbol;
    private BigDecimal price;
    private String timestamp;
    private String rawResponseId;

    static PriceEvent read(JsonFactory factory, byte[] value) {
      PriceEvent event = new PriceEvent();
      try (JsonParser json = factory.createParser(value)) {
        json.nextToken();
        while (json.nextToken() == JsonToken.FIELD_NAME) {
          String name = json.currentName();
          json.nextToken();
          switch (name) {
            case "symbol" -> event.symbol = json.getText();
            case "price" -> event.price = json.getDecimalValue();
            case "timestamp" -> event.timestamp = json.getText();
            case "raw_response_id" -> event.rawResponseId = json.getText();
            default -> json.skipChildren();
          }
        }
      } catch (IOException notJson) {
        throw new UncheckedIOException(notJson);
      }
      return event;
    }
  }
}
