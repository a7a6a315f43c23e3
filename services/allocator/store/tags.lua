-- Where a party is: a sorted set `tag:<16 octets>` of numbers it is on (score +inf) or rests from
-- (score: until when). Invariant: the set dies with its last rest, so a tag leaves no trace here once
-- nothing of it is live.
-- For a search over whole blocks there are bits, made when first wanted and kept in step from then on
-- (`bits:<tag>`: the blocks; `bits:<tag>:<block>`: a bit per serial). They go as soon as the party is on
-- no number any more: nothing but time would take back what only rests.

local HEAVY = 64 -- numbers of a party from which on its bits are made

local function tag_bit(c, tag, block, number, bit)
  local all = c.base .. 'bits:' .. tag
  local key = all .. ':' .. block
  if redis.call('SADD', all, block) == 1 then
    redis.call('SETBIT', key, 9999, 0) -- all of one length, else their complement is not
  end
  redis.call('SETBIT', key, serial_of(number), bit)
end

local function tag_changed(c, tag, number, bit)
  if redis.call('EXISTS', c.base .. 'bits:' .. tag) == 1 then
    tag_bit(c, tag, string.sub(number, 1, 11), number, bit)
  end
end

local function tag_expiry(c, tag)
  local key = c.base .. 'tag:' .. tag
  local top = redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')
  if top[2] == 'inf' then
    redis.call('PERSIST', key)
    return
  elseif top[2] then
    redis.call('PEXPIREAT', key, whole(tonumber(top[2])))
  end
  local all = c.base .. 'bits:' .. tag
  for _, block in ipairs(redis.call('SMEMBERS', all)) do
    redis.call('DEL', all .. ':' .. block)
  end
  redis.call('DEL', all)
end

local function tag_hold(c, tag, number)
  local key = c.base .. 'tag:' .. tag
  redis.call('ZADD', key, '+inf', number)
  redis.call('PERSIST', key)
  tag_changed(c, tag, number, 1)
end

local function tag_rest(c, tag, number, till)
  local key = c.base .. 'tag:' .. tag
  if till > c.now then
    redis.call('ZADD', key, whole(till), number)
    tag_changed(c, tag, number, 1)
  else
    redis.call('ZREM', key, number)
    tag_changed(c, tag, number, 0)
  end
  tag_expiry(c, tag)
end

-- The binding is forgotten: its rest goes, if it is still what holds the tag.
local function tag_forget(c, tag, number, till)
  local score = redis.call('ZSCORE', c.base .. 'tag:' .. tag, number)
  if score and tonumber(score) == till then
    tag_rest(c, tag, number, 0)
  end
end

-- The numbers of a party, or false where they are many: then its bits stand for them.
local function tag_few(c, tag)
  local key = c.base .. 'tag:' .. tag
  local over = redis.call('ZRANGEBYSCORE', key, '-inf', whole(c.now))
  for _, number in ipairs(over) do
    redis.call('ZREM', key, number)
    tag_changed(c, tag, number, 0)
  end
  local top = redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')
  if redis.call('ZCARD', key) <= HEAVY or top[2] ~= 'inf' then
    return redis.call('ZRANGE', key, 0, -1)
  end
  if redis.call('EXISTS', c.base .. 'bits:' .. tag) == 0 then
    for _, number in ipairs(redis.call('ZRANGE', key, 0, -1)) do
      tag_bit(c, tag, string.sub(number, 1, 11), number, 1)
    end
  end
  return false
end

-- When the parties of a binding's entry on a number are over with it: never while it is live.
local function parties_till(pool, fields)
  if fields[2] == 'A' then
    return math.huge
  end
  local till = tonumber(fields[3])
  return till > 0 and till + pool.extra or 0
end

-- A lease of these tags has ended: each rests until `till`, or longer where a binding or another lease
-- on the number says so. (allocator may have leased a number to a party that it did not yet know to
-- be on it.)
local function tags_settle(c, n, tags, till)
  if #tags == 0 then
    return
  end
  local latest = {}
  local fields = redis.call('HGETALL', n.key)
  for at = 1, #fields, 2 do
    local kind = string.sub(fields[at], 1, 2)
    if kind == 'b/' then
      local entry, held = unpack_entry(fields[at + 1], 3)
      local ends = parties_till(n.pool, entry)
      for _, tag in ipairs(split_tags(held)) do
        latest[tag] = math.max(latest[tag] or 0, ends)
      end
    elseif kind == 'e/' then
      local _, held = unpack_entry(fields[at + 1], 1)
      for _, tag in ipairs(split_tags(held)) do
        latest[tag] = math.huge
      end
    end
  end
  for _, tag in ipairs(tags) do
    local ends = math.max(latest[tag] or 0, till)
    if ends == math.huge then
      tag_hold(c, tag, n.id)
    else
      tag_rest(c, tag, n.id, ends)
    end
  end
end
