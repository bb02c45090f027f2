import java.sql.*;
import java.util.*;

/** pgjdbc with TLS, its checks as libpq's verify-full; the authority's certificate is an argument. */
public class Encrypted {
    static Connection connect(String mode, String authority) throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", System.getenv("PGUSER"));
        properties.setProperty("password", System.getenv("PGPASSWORD"));
        properties.setProperty("sslmode", mode);
        properties.setProperty("sslrootcert", authority);
        return DriverManager.getConnection("jdbc:postgresql://localhost:"
            + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE"), properties);
    }

    public static void main(String[] arguments) throws Exception {
        try (Connection connection = connect("verify-full", arguments[0]);
             PreparedStatement statement =
                 connection.prepareStatement("SELECT ?::int + 1, repeat('x', 100000)")) {
            for (int number = 0; number < 20; number++) {
                statement.setInt(1, number);
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                    if (rows.getInt(1) != number + 1 || rows.getString(2).length() != 100000) {
                        throw new AssertionError("row " + number);
                    }
                }
            }
        }
        try {
            connect("verify-full", arguments[1]).close();
            throw new AssertionError("a stranger's certificate was accepted");
        } catch (SQLException error) {
            if (!"08006".equals(error.getSQLState())) {
                throw error;
            }
        }
        try {
            connect("disable", arguments[0]).close();
            throw new AssertionError("Penstock takes what is not encrypted");
        } catch (SQLException error) {
            if (!"28000".equals(error.getSQLState())) {
                throw error;
            }
        }
        System.out.println("done");
    }
}
