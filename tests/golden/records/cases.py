import json,re,pathlib,random,sys,base64
C=re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/',re.S)
PK={'metadata':'org.apache.kafka.common.metadata','group-coordinator':'org.apache.kafka.coordinator.group.generated','transaction-coordinator':'org.apache.kafka.coordinator.transaction.generated','share-coordinator':'org.apache.kafka.coordinator.share.generated','clients':'org.apache.kafka.common.message'}
CONTROL=["LeaderChangeMessage","SnapshotHeaderRecord","SnapshotFooterRecord","KRaftVersionRecord","VotersRecord","EndTxnMarker"]
def rng(t,last=32767):
    if t in(None,'none'): return (1,0)
    if t.endswith('+'): return (int(t[:-1]),last)
    a,_,b=t.partition('-'); return (int(a),int(b or a))
def lower(n): return n[0].lower()+n[1:]
def jname(n):
    # camelCase: first letter lower
    return n[0].lower()+n[1:]
R=random.Random(7)
def uuid():
    b=bytes([0x10]+[R.randrange(256) for _ in range(15)]); return base64.urlsafe_b64encode(b).decode().rstrip('=')
def value(t,f,common,v,mode):
    if t.startswith('[]'):
        n={'full':R.choice([1,2,3]),'empty':0,'null':0}[mode]
        return [value(t[2:],f,common,v,mode) for _ in range(n)]
    r=mode!='empty' 
    if t=='bool': return R.random()<.5
    if t in('int8','int16','int32','int64'):
        b=int(t[3:]); return R.choice([0,1,-1,2**(b-1)-1,-2**(b-1),R.randrange(-2**(b-1),2**(b-1))])
    if t=='uint16': return R.choice([0,9092,65535])
    if t=='float64': return R.choice([0.5,-1e300,1024.0])
    if t=='uuid': return uuid()
    if t=='string': return '' if mode=='empty' else R.choice(['orders','häufig-Ω','x'*200])
    if t=='bytes': return '' if mode=='empty' else base64.b64encode(bytes(R.randrange(256) for _ in range(R.choice([1,5,130])))).decode()
    return struct(common.get(t) or f['fields'],common,v,mode)
def struct(fields,common,v,mode):
    o={}
    for f in fields:
        a,b=rng(f.get('versions','0+'))
        if not a<=v<=b: continue
        if f.get('taggedVersions'):
            ta,tb=rng(f['taggedVersions'])
            if not ta<=v<=tb: continue
            if mode=='empty':
                continue
        if mode=='null' and f.get('nullableVersions'):
            na,nb=rng(f['nullableVersions'])
            if na<=v<=nb: o[jname(f['name'])]=None; continue
        o[jname(f['name'])]=value(f['type'],f,common,v,mode)
    return o
for p in sorted(pathlib.Path(sys.argv[1]).rglob('*.json')):
    s=json.loads(C.sub(lambda m:m.group(1) or '',p.read_text()))
    ty=s.get('type'); mod=next((k for k in PK if f'kafka-{k}-' in str(p)),None)
    if mod is None or not (ty in('metadata','coordinator-key','coordinator-value') or s.get('name') in CONTROL): continue
    common={c['name']:c['fields'] for c in s.get('commonStructs',[])}
    a,b=rng(s['validVersions'])
    for v in range(a,b+1):
        seen=set()
        for mode in ('empty','full','full','null'):
            j=json.dumps(struct(s['fields'],common,v,mode))
            if j in seen: continue
            seen.add(j)
            print(ty,PK[mod]+'.'+s['name'],v,j)
