// A cluster client writes on while the leader dies. Arguments: library, mode (cluster or sentinel), ports, name.
// Prints "ready" after 20 writes; told on standard input that the leader is dead, it writes 50 more.
const assert = require("node:assert/strict");

async function connect(library, mode, ports, name) {
  const nodes = ports.map((port) => ({ host: "127.0.0.1", port }));
  if (library === "ioredis") {
    const { Redis, Cluster } = require("ioredis");
    const client = mode === "cluster" ? new Cluster(nodes) : new Redis({ sentinels: nodes, name });
    client.on("error", () => {});
    return { incr: (key) => client.incr(key), get: (key) => client.get(key), close: () => client.quit() };
  }
  const { createCluster, createSentinel } = require("redis");
  const client =
    mode === "cluster"
      ? createCluster({ rootNodes: nodes.map(({ host, port }) => ({ url: `redis://${host}:${port}` })) })
      : createSentinel({ name, sentinelRootNodes: nodes });
  client.on("error", () => {});
  await client.connect();
  return { incr: (key) => client.incr(key), get: (key) => client.get(key), close: () => client.close() };
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

async function main(library, mode, ports, name) {
  const client = await connect(library, mode, ports, name);
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

main(process.argv[2], process.argv[3], process.argv[4].split(",").map(Number), process.argv[5]).then(
  () => process.exit(0),
  (error) => { console.error(error); process.exit(1); },
);
