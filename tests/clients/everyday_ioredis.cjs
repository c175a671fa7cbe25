// ioredis with its defaults: everyday commands. Arguments: host port.
const assert = require("node:assert/strict");
const { Redis } = require("ioredis");

async function main(host, port) {
  const redis = new Redis(Number(port), host);
  const errors = [];
  redis.on("error", (error) => errors.push(error));

  assert.equal(await redis.ping(), "PONG");
  assert.equal(redis.status, "ready");
  assert.equal(await redis.set("k", "v"), "OK");
  assert.equal(await redis.get("k"), "v");
  assert.equal(await redis.get("nothing"), null);
  assert.equal(await redis.set("k", "w", "EX", 100, "NX"), null);
  assert.equal(await redis.set("k", "w", "EX", 100), "OK");
  assert.ok((await redis.ttl("k")) > 90);
  assert.equal(await redis.incr("n"), 1);
  assert.equal(await redis.incrby("n", 41), 42);
  assert.equal(await redis.mset({ a: "1", b: "2" }), "OK");
  assert.deepEqual(await redis.mget("a", "b", "c"), ["1", "2", null]);
  assert.equal(await redis.append("a", "1"), 2);
  assert.equal(await redis.getrange("a", 0, 0), "1");
  assert.equal(await redis.exists("a", "b", "zz"), 2);
  assert.equal(await redis.expire("a", 50), 1);
  assert.equal(await redis.getdel("a"), "11");
  assert.equal(await redis.del("a", "b"), 1);
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
  await redis.set("binary", bytes);
  assert.deepEqual(await redis.getBuffer("binary"), bytes);

  assert.deepEqual(await redis.pipeline().set("p", "1").incr("p").get("p").exec(), [[null, "OK"], [null, 2], [null, "2"]]);
  assert.deepEqual(await redis.multi().set("m", "1").incr("m").exec(), [[null, "OK"], [null, 2]]);
  const mixed = await redis.multi().set("word", "x").incr("word").exec();
  assert.equal(mixed[0][1], "OK");
  assert.match(mixed[1][0].message, /value is not an integer or out of range/);

  const other = redis.duplicate();
  await redis.watch("m");
  await other.set("m", "changed");
  assert.equal(await redis.multi().set("m", "lost").exec(), null);
  assert.equal(await redis.get("m"), "changed");

  await assert.rejects(redis.call("NO-SUCH-COMMAND"), /unknown command/);
  const counted = await Promise.all(Array.from({ length: 1000 }, () => redis.incr("many")));
  assert.deepEqual(counted, Array.from({ length: 1000 }, (_, i) => i + 1));

  const found = new Set();
  for await (const keys of redis.scanStream({ match: "m*", count: 10 })) keys.forEach((key) => found.add(key));
  assert.deepEqual([...found].sort(), ["m", "many"]);

  const prefixed = new Redis({ host, port: Number(port), keyPrefix: "app:", db: 4, enableAutoPipelining: true });
  await Promise.all([prefixed.set("x", "1"), prefixed.set("y", "2")]);
  assert.deepEqual(await prefixed.mget("x", "y"), ["1", "2"]);
  assert.equal(await redis.exists("app:x"), 0);

  assert.match(await redis.info(), /redis_version/);
  for (const client of [prefixed, other, redis]) await client.quit();
  assert.deepEqual(errors, []);
}

main(process.argv[2], process.argv[3]).then(
  () => console.log("everything as expected"),
  (error) => { console.error(error); process.exit(1); },
);
