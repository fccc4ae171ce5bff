package pets;

import java.time.LocalDate;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ThreadLocalRandom;
import java.util.stream.Stream;
import org.springframework.http.HttpStatus;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PathVariable;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.RequestBody;
import org.springframework.web.bind.annotation.RequestParam;
import org.springframework.web.bind.annotation.RestController;
import org.springframework.web.server.ResponseStatusException;

@RestController
public class PetsController {
    private static final List<String> BREEDS = List.of("Afghan Hound", "Beagle", "Border Collie", "Pug", "Whippet");
    private static final List<String> NAMES = List.of("Bailey", "Bella", "Max", "Lucy", "Charlie", "Molly");
    private static final int LIMIT_MAX = 100;

    private final Map<String, Pet> pets = new ConcurrentHashMap<>();

    @GetMapping("/pets")
    public List<Pet> list(@RequestParam(defaultValue = "10") int limit) {
        return Stream.generate(PetsController::random).limit(Math.max(0, Math.min(limit, LIMIT_MAX))).toList();
    }

    @GetMapping("/pets/{id}")
    public Pet get(@PathVariable String id) {
        Pet pet = pets.get(id);
        if (pet == null)
            throw new ResponseStatusException(HttpStatus.NOT_FOUND);
        return pet;
    }

    @PostMapping("/pets")
    public Pet create(@RequestBody Pet pet) {
        if (pet.name() == null || pet.breed() == null)
            throw new ResponseStatusException(HttpStatus.BAD_REQUEST);
        Pet made = new Pet(UUID.randomUUID().toString(), pet.breed(), pet.name(), pet.dateOfBirth());
        pets.put(made.id(), made);
        return made;
    }

    private static Pet random() {
        ThreadLocalRandom random = ThreadLocalRandom.current();
        return new Pet(UUID.randomUUID().toString(), BREEDS.get(random.nextInt(BREEDS.size())),
            NAMES.get(random.nextInt(NAMES.size())), LocalDate.now().minusDays(random.nextInt(5475)));
    }
}
