-- Where a party is: a sorted set `tag:<16 octets>` of shared numbers it is on (score +inf) or cools
-- on (score: until when). Invariant: the set dies with its last rest, so a tag leaves no trace here
-- once nothing of it is live.

local function tag_expiry(key)
  local top = redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')
  if top[2] == 'inf' then
    redis.call('PERSIST', key)
  elseif top[2] then
    redis.call('PEXPIREAT', key, whole(tonumber(top[2])))
  end
end

local function tag_hold(c, tag, number)
  local key = c.base .. 'tag:' .. tag
  redis.call('ZADD', key, '+inf', number)
  redis.call('PERSIST', key)
end

local function tag_rest(c, tag, number, till)
  local key = c.base .. 'tag:' .. tag
  if till > c.now then
    redis.call('ZADD', key, whole(till), number)
  else
    redis.call('ZREM', key, number)
  end
  tag_expiry(key)
end

-- The binding is forgotten: its rest goes, if it is still what holds the tag.
local function tag_forget(c, tag, number, till)
  local key = c.base .. 'tag:' .. tag
  local score = redis.call('ZSCORE', key, number)
  if score and tonumber(score) == till then
    redis.call('ZREM', key, number)
    tag_expiry(key)
  end
end

-- A lease of these tags has ended: each rests until `till`, or longer where a binding on the number
-- says so. (allocator may have leased a number to a party that it did not yet know to be on it.)
local function tags_settle(c, number_key, number, tags, till)
  if #tags == 0 then
    return
  end
  local latest = {}
  local fields = redis.call('HGETALL', number_key)
  for at = 1, #fields, 2 do
    local kind = string.sub(fields[at], 1, 2)
    if kind == 'b/' then
      local entry, held = unpack_entry(fields[at + 1], 3)
      local ends = entry[2] == 'A' and math.huge or tonumber(entry[3])
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
      tag_hold(c, tag, number)
    else
      tag_rest(c, tag, number, ends)
    end
  end
end
