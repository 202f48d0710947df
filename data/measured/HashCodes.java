// What Java makes of ids, one per line: the hash code, its remainder by 100, that of its absolute
// value, the floored one, and the CRC-32 of the id with a flag's key behind it and before it.
// Called by record_bucketing.mjs.
//
//   java HashCodes.java KEY < ids.txt

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.zip.CRC32;

public class HashCodes {
    static long crc32(String text) {
        CRC32 sum = new CRC32();
        sum.update(text.getBytes(StandardCharsets.UTF_8));
        return sum.getValue();
    }

    public static void main(String[] args) throws IOException {
        String key = args[0];
        var in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        var out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        for (String id = in.readLine(); id != null; id = in.readLine()) {
            int hash = id.hashCode();
            int[] remainders = {hash % 100, Math.abs(hash) % 100, Math.floorMod(hash, 100)};
            out.print(hash);
            for (int remainder : remainders) {
                out.print(" " + remainder);
            }
            out.println(" " + crc32(id + key) + " " + crc32(key + id));
        }
        out.flush();
    }
}
