// For Android Studio: the sources and coordinates of the Maven build beside it, whose versions it reads. `make android`
// is what CI runs and what makes the bundle; nothing here is run by it.
pluginManagement {
    val pom = settings.rootDir.resolve("pom.xml").readText()
    val kotlinVersion = Regex("<kotlin.version>(.+?)</").find(pom)!!.groupValues[1]
    repositories {
        google()
        mavenCentral()
    }
    plugins {
        id("com.android.application") version "8.13.0"
        id("org.jetbrains.kotlin.jvm") version kotlinVersion
        id("org.jetbrains.kotlin.android") version kotlinVersion
        id("org.jetbrains.kotlin.plugin.serialization") version kotlinVersion
    }
}

dependencyResolutionManagement {
    repositories {
        google()
        mavenCentral()
    }
}

rootProject.name = "android_demo"
include(":core", ":app")
