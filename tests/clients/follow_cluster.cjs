// A cluster client writes on while the leader dies. Arguments: library, mode (cluster or sentinel), ports, name,
// and for TLS the file of the authority; mode "plain" is one client of the first port.
// Prints "ready" after 20 writes; told on standard input that the leader is dead, it writes 50 more.
const assert = require("node:assert/strict");
const fs = require("node:fs");

function withIoredis(mode, nodes, name, tls) {
  const { Redis, Cluster } = require("ioredis");
  if (mode === "plain") return new Redis({ ...nodes[0], tls });
  if (mode === "cluster") return new Cluster(nodes, { redisOptions: { tls } });
  const encrypted = tls && { enableTLSForSentinelMode: true, sentinelTLS: tls, tls };
  return new Redis({ sentinels: nodes, name, ...encrypted });
}

function withNodeRedis(mode, nodes, name, tls) {
  const { createClient, createCluster, createSentinel } = require("redis");
  const socket = tls && { tls: true, ...tls };
  if (mode === "plain") return createClient({ socket: { ...nodes[0], ...socket } });
  if (mode === "cluster") return createCluster({ rootNodes: nodes.map((node) => ({ socket: { ...node, ...socket } })), defaults: { socket } });
  return createSentinel({ name, sentinelRootNodes: nodes, nodeClientOptions: { socket }, sentinelClientOptions: { socket } });
}

async function connect(library, mode, ports, name, tls) {
  const nodes = ports.map((port) => ({ host: "127.0.0.1", port }));
  const client = (library === "ioredis" ? withIoredis : withNodeRedis)(mode, nodes, name, tls);
  client.on("error", () => {});
  if (library !== "ioredis") await client.connect();
  const close = () => (library === "ioredis" ? client.quit() : client.close());
  return { incr: (key) => client.incr(key), get: (key) => client.get(key), close };
}

async function within(promise, milliseconds) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("no answer in time")), milliseconds);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

async function main(library, mode, ports, name, authority) {
  const tls = authority ? { ca: fs.readFileSync(authority) } : undefined;
  const client = await connect(library, mode, ports, name, tls);
  let acknowledged = 0;
  for (; acknowledged < 20; acknowledged++) await client.incr("count");
  console.log("ready");
  await new Promise((resolve) => process.stdin.once("data", resolve)); // the leader was killed
  const end = Date.now() + 40000;
  for (let more = 0; more < 50; ) {
    assert.ok(Date.now() < end, `only ${more} writes after the leader's death`);
    try {
      await within(client.incr("count"), 8000);
      more++;
      acknowledged++;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
  assert.ok(Number(await client.get("count")) >= acknowledged);
  await client.close();
  console.log(`acknowledged ${acknowledged}`);
}

main(process.argv[2], process.argv[3], process.argv[4].split(",").map(Number), process.argv[5], process.argv[6]).then(
  () => process.exit(0),
  (error) => { console.error(error); process.exit(1); },
);
