import java.io.*; import java.nio.*; import java.lang.reflect.*; import java.util.*;
import com.fasterxml.jackson.databind.*;
import org.apache.kafka.common.protocol.*;
import org.apache.kafka.server.common.ApiMessageAndVersion;
import org.apache.kafka.metadata.MetadataRecordSerde;
public class Encode {
  public static void main(String[] a) throws Exception {
    ObjectMapper m=new ObjectMapper(); BufferedReader r=new BufferedReader(new FileReader(a[0])); String line;
    PrintStream out=new PrintStream(new FileOutputStream(a[1]));
    while((line=r.readLine())!=null){ String[] p=line.split(" ",4); short v=Short.parseShort(p[2]);
      try {
      Class<?> c=Class.forName(p[1]+"JsonConverter"); Message msg=(Message)c.getMethod("read",JsonNode.class,short.class).invoke(null,m.readTree(p[3]),v);
      byte[] b; 
      ObjectSerializationCache cache=new ObjectSerializationCache();
      if(p[0].equals("metadata")){ MetadataRecordSerde s=new MetadataRecordSerde(); ApiMessageAndVersion x=new ApiMessageAndVersion((ApiMessage)msg,v); int n=s.recordSize(x,cache); ByteBuffer bb=ByteBuffer.allocate(n); s.write(x,cache,new ByteBufferAccessor(bb)); b=bb.array(); }
      else { int n=msg.size(cache,v); ByteBuffer bb=ByteBuffer.allocate(n+2); bb.putShort(v); msg.write(new ByteBufferAccessor(bb),cache,v); b=bb.array(); }
      String n=p[1].substring(p[1].lastIndexOf('.')+1);
      out.println(n+" "+v+" "+HexFormat.of().formatHex(b));
      } catch(Throwable t){ Throwable q=t; while(q.getCause()!=null) q=q.getCause(); System.err.println(p[1]+" "+v+" "+q+" "+p[3].substring(0,Math.min(200,p[3].length()))); }
    } out.close(); } }
