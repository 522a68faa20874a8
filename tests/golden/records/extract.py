import sys,struct,glob,os
def varint(b,i):
    s=0;v=0
    while True:
        x=b[i]; i+=1; v|=(x&127)<<s; s+=7
        if x<128: break
    return (v>>1)^-(v&1), i
def batches(b):
    i=0
    while i+61<=len(b):
        base,ln=struct.unpack('>qi',b[i:i+12])
        if ln<=0: return
        attr=struct.unpack('>h',b[i+21:i+23])[0]; n=struct.unpack('>i',b[i+57:i+61])[0]
        j=i+61
        assert attr&7==0
        for _ in range(n):
            l,j=varint(b,j); e=j+l; j+=1; _,j=varint(b,j); od,j=varint(b,j)
            k,j=varint(b,j); key=None if k<0 else b[j:j+k]; j+=max(k,0)
            v,j=varint(b,j); val=None if v<0 else b[j:j+v]; j=e
            yield attr>>5&1, base+od, key, val
        i+=12+ln
h=lambda x:'-' if x is None else x.hex() or '.'
d=sys.argv[1]
for t in ('__cluster_metadata','__consumer_offsets','__transaction_state','__share_group_state'):
    for f in sorted(glob.glob(f'{d}/{t}-*/*.log')):
        for c,off,k,v in batches(open(f,'rb').read()):
            if t=='__cluster_metadata' and v[1]==20: continue
            print('control' if c else t,h(k),h(v))
