import java.sql.*;
import java.util.*;
import java.util.concurrent.*;

/** pgjdbc at its defaults: named statements after five uses, simple BEGIN before the first. */
public class Clients {
    static final String URL = "jdbc:postgresql://" + System.getenv("PGHOST") + ":"
        + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE");

    interface Work {
        void run() throws Exception;
    }

    static Connection connect(String... options) throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", System.getenv("PGUSER"));
        properties.setProperty("password", System.getenv("PGPASSWORD"));
        for (String option : options) {
            properties.setProperty(option.split("=", 2)[0], option.split("=", 2)[1]);
        }
        return DriverManager.getConnection(URL, properties);
    }

    static void check(Object found, Object expected, String what) {
        if (!Objects.equals(found, expected)) {
            throw new AssertionError(what + ": " + found + ", not " + expected);
        }
        System.out.println("ok " + what);
    }

    static String stateOf(Work work) throws Exception {
        try {
            work.run();
        } catch (SQLException error) {
            return error.getSQLState();
        }
        return "none";
    }

    static int integer(Connection connection, String sql, int... values) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int n = 0; n < values.length; n++) {
                statement.setInt(n + 1, values[n]);
            }
            try (ResultSet rows = statement.executeQuery()) {
                rows.next();
                return rows.getInt(1);
            }
        }
    }

    static void run(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute(sql);
        }
    }

    public static void main(String[] arguments) throws Exception {
        try (Connection connection = connect()) {
            statements(connection);
            writes(connection);
            transactions(connection);
            batches(connection);
            fetchSize(connection);
            metadata(connection);
            cancel(connection);
        }
        readOnly();
        crowd();
        shapes();
        System.out.println("done");
    }

    static void statements(Connection connection) throws Exception {
        for (int n = 0; n < 20; n++) {
            if (integer(connection, "SELECT ? + 1", n) != n + 1) {
                throw new AssertionError("turn " + n);
            }
        }
        for (int n = 0; n < 300; n++) {
            if (integer(connection, "SELECT ? + " + n, 1) != n + 1) {
                throw new AssertionError("statement " + n);
            }
        }
        check(stateOf(() -> integer(connection, "SELECT 1 / ?", 0)), "22012", "division by zero");
        check(stateOf(() -> integer(connection, "SELECT * FROM nowhere")), "42P01", "no such table");
    }

    static void writes(Connection connection) throws Exception {
        run(connection, "CREATE TABLE own (id int PRIMARY KEY, n int)");
        run(connection, "INSERT INTO own VALUES (1, 0)");
        try (PreparedStatement write = connection.prepareStatement("UPDATE own SET n = ?")) {
            for (int n = 1; n <= 60; n++) {
                write.setInt(1, n);
                write.executeUpdate();
                if (integer(connection, "SELECT n FROM own WHERE id = ?", 1) != n) {
                    throw new AssertionError("turn " + n + " did not see its own write");
                }
            }
        }
        check(integer(connection, "SELECT max(n) FROM own"), 60, "a session reads its own writes");
    }

    static void transactions(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        run(connection, "INSERT INTO own VALUES (2, 2)");
        Savepoint here = connection.setSavepoint("here");
        check(stateOf(() -> run(connection, "INSERT INTO own VALUES (2, 2)")), "23505", "unique");
        check(stateOf(() -> run(connection, "SELECT 1")), "25P02", "aborted");
        connection.rollback(here);
        connection.commit();
        run(connection, "INSERT INTO own VALUES (3, 3)");
        connection.rollback();
        check(integer(connection, "SELECT count(*) FROM own"), 2, "committed and rolled back");
        connection.rollback();
        connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
        try (ResultSet rows = connection.createStatement().executeQuery("SHOW transaction_isolation")) {
            rows.next();
            check(rows.getString(1), "serializable", "isolation level");
        }
        connection.rollback();
        connection.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
        connection.setAutoCommit(true);
    }

    static void batches(Connection connection) throws Exception {
        run(connection, "CREATE TABLE many (id serial PRIMARY KEY, n int UNIQUE)");
        String sql = "INSERT INTO many (n) VALUES (?)";
        try (PreparedStatement insert =
                connection.prepareStatement(sql, Statement.RETURN_GENERATED_KEYS)) {
            for (int n = 0; n < 500; n++) {
                insert.setInt(1, n);
                insert.addBatch();
            }
            check(insert.executeBatch().length, 500, "batch");
            int keys = 0;
            for (ResultSet rows = insert.getGeneratedKeys(); rows.next(); ) {
                keys++;
            }
            check(keys, 500, "generated keys");
            insert.setInt(1, 1000);
            insert.addBatch();
            insert.setInt(1, 1);
            insert.addBatch();
            try {
                insert.executeBatch();
                throw new AssertionError("the batch should have failed");
            } catch (BatchUpdateException error) {
                check(error.getSQLState(), "23505", "failing batch");
            }
        }
        check(integer(connection, "SELECT count(*) FROM many"), 500, "all or nothing");
    }

    static void fetchSize(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        try (PreparedStatement statement =
                connection.prepareStatement("SELECT n FROM generate_series(1, 5000) n")) {
            statement.setFetchSize(100);
            long sum = 0;
            try (ResultSet rows = statement.executeQuery()) {
                while (rows.next()) {
                    sum += rows.getInt(1);
                    if (rows.getInt(1) % 1000 == 0) {
                        integer(connection, "SELECT ? + 1", 1); // between the fetches
                    }
                }
            }
            check(sum, 12502500L, "fetch size");
        }
        connection.commit();
        connection.setAutoCommit(true);
    }

    static void metadata(Connection connection) throws Exception {
        DatabaseMetaData seen = connection.getMetaData();
        List<String> columns = new ArrayList<>();
        for (ResultSet rows = seen.getColumns(null, "public", "many", "%"); rows.next(); ) {
            columns.add(rows.getString("COLUMN_NAME"));
        }
        check(columns, List.of("id", "n"), "columns");
        ResultSet keys = seen.getPrimaryKeys(null, "public", "many");
        keys.next();
        check(keys.getString("COLUMN_NAME"), "id", "primary key");
        check(connection.isValid(5), true, "isValid");
        run(connection, "CREATE TYPE mood AS ENUM ('sad', 'ok')");
        try (ResultSet rows =
                connection.createStatement().executeQuery("SELECT ARRAY['ok']::mood[], '{1,2}'::int[]")) {
            rows.next();
            check(Arrays.asList((Object[]) rows.getArray(1).getArray()), List.of("ok"), "new type");
            check(Arrays.asList((Object[]) rows.getArray(2).getArray()), List.of(1, 2), "array");
        }
        org.postgresql.copy.CopyManager copy =
            connection.unwrap(org.postgresql.PGConnection.class).getCopyAPI();
        long copied = copy.copyIn("COPY many (n) FROM STDIN", new java.io.StringReader("7001\n7002\n"));
        check(copied, 2L, "copy in");
        java.io.StringWriter out = new java.io.StringWriter();
        copy.copyOut("COPY (SELECT n FROM many WHERE n > 7000 ORDER BY n) TO STDOUT", out);
        check(out.toString(), "7001\n7002\n", "copy out");
    }

    static void cancel(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement()) {
            statement.setQueryTimeout(1);
            check(stateOf(() -> statement.execute("SELECT pg_sleep(20)")), "57014", "query timeout");
        }
        check(integer(connection, "SELECT 3"), 3, "usable after it");
    }

    static void readOnly() throws Exception {
        try (Connection connection = connect()) {
            connection.setReadOnly(true);
            connection.setAutoCommit(false);
            check(integer(connection, "SELECT 4"), 4, "read-only transaction");
            check(stateOf(() -> run(connection, "CREATE TABLE no (n int)")), "25006", "refused");
            connection.rollback();
        }
        try (Connection connection = connect("readOnlyMode=always", "options=-c timezone=Japan")) {
            connection.setReadOnly(true);
            check(stateOf(() -> run(connection, "CREATE TABLE no (n int)")), "25006", "refused too");
        }
    }

    static void crowd() throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(10);
        List<Future<Object>> all = new ArrayList<>();
        for (int thread = 0; thread < 10; thread++) {
            int number = thread;
            all.add(threads.submit(() -> {
                try (Connection connection = connect()) {
                    for (int n = 0; n < 40; n++) {
                        int found = integer(connection, "SELECT ? * 1000 + " + number, n);
                        if (found != n * 1000 + number) {
                            throw new AssertionError("thread " + number + " got " + found);
                        }
                        if (n % 10 == 9 && number % 3 == 0) {
                            connection.setAutoCommit(false);
                            run(connection, "SET LOCAL work_mem = '9MB'");
                            integer(connection, "SELECT ? + 1", n);
                            connection.commit();
                            connection.setAutoCommit(true);
                        }
                    }
                    return null;
                }
            }));
        }
        for (Future<Object> one : all) {
            one.get(60, TimeUnit.SECONDS);
        }
        threads.shutdown();
        check(all.size(), 10, "threads with statements of their own");
    }

    /** pgjdbc remembers the columns of a named statement, so they must not change unnoticed. */
    static void shapes() throws Exception {
        List<Connection> clients = new ArrayList<>();
        for (int n = 0; n < 6; n++) {
            clients.add(connect());
        }
        run(clients.get(0), "CREATE TABLE shape (id int, n int)");
        run(clients.get(0), "INSERT INTO shape VALUES (1, 10)");
        List<PreparedStatement> statements = new ArrayList<>();
        for (Connection client : clients) {
            PreparedStatement statement =
                client.prepareStatement("SELECT n FROM shape WHERE id = 1 FOR SHARE");
            statements.add(statement);
            for (int n = 0; n < 8; n++) {
                check(only(statement), "10", "shape");
            }
        }
        run(clients.get(0), "ALTER TABLE shape ALTER n TYPE real USING 2.5");
        for (int turn = 0; turn < 4; turn++) {
            for (PreparedStatement statement : statements) {
                String found;
                try {
                    found = only(statement);
                } catch (SQLException error) {
                    check(error.getSQLState(), "0A000", "cached plan must not change result type");
                    continue;
                }
                check(found, "2.5", "new shape");
            }
        }
        for (Connection client : clients) {
            client.close();
        }
    }

    static String only(PreparedStatement statement) throws SQLException {
        try (ResultSet rows = statement.executeQuery()) {
            rows.next();
            return rows.getString(1);
        }
    }
}
