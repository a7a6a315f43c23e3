-- Many bindings in a call: what a call costs beside its work is most of its time.
-- Args: per binding how many keys and args it has, then its args from 3 on; its keys from 3 on stand
-- behind those of the one before. Invariant: what one of them leads to says nothing of the others.

local function many(one)
  return function(keys, args)
    local answers = {'OK'}
    local k, a = 2, 3
    while a <= #args do
      local its_keys, its_args = {keys[1], keys[2]}, {args[1], args[2]}
      local key_count, arg_count = tonumber(args[a]), tonumber(args[a + 1])
      for at = 1, key_count do its_keys[at + 2] = keys[k + at] end
      for at = 1, arg_count do its_args[at + 2] = args[a + 1 + at] end
      k, a = k + key_count, a + 2 + arg_count
      answers[#answers + 1] = one(its_keys, its_args)
    end
    return answers
  end
end

-- Heal: bindings as the state topic has them.
reads('restore_many', many(function(keys, args)
  if tonumber(args[4]) > tonumber(redis.call('HGET', keys[3], 'v') or '0') then
    restore(keys, args, '0')
  end
end))

-- Each as in `release` and `forget`: its sequence, or '0' where that one refuses. The outbox is looked
-- at once, so it may come to be longer by these.
local function sequence_of(answer)
  return answer[1] == 'OK' and answer[2] or '0'
end

writes('release_many', many(function(keys, args)
  return sequence_of(release(keys, args))
end))

writes('forget_many', many(function(keys, args)
  return sequence_of(forget(keys, args))
end))

-- Keys from 3: bindings. Answers record and order tag of each, '' and '' where there is none.
reads('get_many', function(keys, args)
  local found = {'OK'}
  for place = 3, #keys do
    local got = redis.call('HMGET', keys[place], 'r', 'o')
    found[#found + 1] = got[1] or ''
    found[#found + 1] = got[2] or ''
  end
  return found
end)
