package pets;

import java.time.LocalDate;

public record Pet(String id, String breed, String name, LocalDate dateOfBirth) {}
