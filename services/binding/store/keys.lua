-- Route keys that change or end. Invariant: from the version that was read only, with its record.

-- Key 3: the key. args: 3 version it was read at ('0': the store has none), 4 outbox entry,
-- 5 record ('': its end), 6 its version.
writes('change_key', function(keys, args)
  if (redis.call('HGET', keys[3], 'v') or '0') ~= args[3] then return {'STALE'} end
  local sequence = whole(cell_append(keys, args[4]))
  if args[5] == '' then
    redis.call('DEL', keys[3])
  else
    redis.call('HSET', keys[3], 'r', args[5], 'sq', sequence, 'v', args[6])
  end
  return {'OK', sequence}
end)

-- Key 3: a route key. Answers its record and version ('' and '0': none), and the store's clock.
reads('get_key', function(keys, args)
  local got = redis.call('HMGET', keys[3], 'r', 'v')
  return {'OK', got[1] or '', got[2] or '0', whole(now_ms())}
end)
