// node-redis with its defaults: everyday commands. Arguments: host port.
const assert = require("node:assert/strict");
const { createClient, WatchError } = require("redis");

async function main(host, port) {
  const url = `redis://${host}:${port}`;
  const client = createClient({ url });
  const errors = [];
  client.on("error", (error) => errors.push(error));
  await client.connect();

  assert.equal(await client.ping(), "PONG");
  assert.equal(await client.set("k", "v"), "OK");
  assert.equal(await client.get("k"), "v");
  assert.equal(await client.get("nothing"), null);
  assert.equal(await client.set("k", "w", { NX: true }), null);
  assert.equal(await client.set("k", "w", { XX: true, EX: 100, GET: true }), "v");
  const ttl = await client.ttl("k");
  assert.ok(ttl > 90 && ttl <= 100);
  assert.equal(await client.incr("n"), 1);
  assert.equal(await client.incrBy("n", 41), 42);
  assert.equal(Number(await client.incrByFloat("f", 1.5)), 1.5);
  assert.equal(await client.mSet({ a: "1", b: "2" }), "OK");
  assert.deepEqual(await client.mGet(["a", "b", "c"]), ["1", "2", null]);
  assert.equal(await client.append("a", "1"), 2);
  assert.equal(await client.getRange("a", 0, 0), "1");
  assert.equal(await client.strLen("a"), 2);
  assert.equal(await client.exists(["a", "b", "zz"]), 2);
  assert.equal(await client.type("a"), "string");
  assert.equal(await client.expire("a", 50), 1);
  assert.equal(await client.persist("a"), 1);
  assert.equal(await client.getDel("a"), "11");
  assert.equal(await client.del(["a", "b"]), 1);

  assert.deepEqual(await client.multi().set("m", "1").incr("m").get("m").exec(), ["OK", 2, "2"]);
  const counted = await Promise.all(Array.from({ length: 1000 }, () => client.incr("many")));
  assert.deepEqual(counted, Array.from({ length: 1000 }, (_, i) => i + 1));

  const other = client.duplicate();
  other.on("error", (error) => errors.push(error));
  await other.connect();
  await client.watch("m");
  await other.set("m", "changed");
  await assert.rejects(client.multi().set("m", "lost").exec(), WatchError);
  assert.equal(await client.get("m"), "changed");

  await assert.rejects(client.incr("m"), /value is not an integer or out of range/);
  await assert.rejects(client.sendCommand(["NO-SUCH-COMMAND"]), /unknown command/);

  const found = [];
  for await (const keys of client.scanIterator({ MATCH: "m*", COUNT: 10 })) found.push(...[].concat(keys));
  assert.deepEqual([...new Set(found)].sort(), ["m", "many"]);
  assert.equal((await client.keys("m*")).length, 2);
  assert.equal(await client.dbSize(), (await client.keys("*")).length);

  await other.select(3);
  assert.equal(await other.get("m"), null);
  assert.match(await client.info("server"), /redis_version/);
  assert.equal(typeof (await client.clientId()), "number");
  const large = "x".repeat(2_000_000);
  await client.set("large", large);
  assert.equal(await client.get("large"), large);

  await other.close();
  await client.close();
  assert.deepEqual(errors, []);
}

main(process.argv[2], process.argv[3]).then(
  () => console.log("everything as expected"),
  (error) => { console.error(error); process.exit(1); },
);
